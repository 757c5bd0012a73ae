"""What the types cannot say: contradictions, and values that no kernel takes. One module per subject."""

from pyruntime.spec.checks.container import check_intel_rdt as check_intel_rdt
from pyruntime.spec.checks.container import check_spec as check_spec
from pyruntime.spec.checks.host import check_host as check_host
from pyruntime.spec.checks.host import check_platform as check_platform
from pyruntime.spec.checks.process import check_process as check_process
from pyruntime.spec.checks.resources import check_resources as check_resources
