from pyruntime.spec.container import *
from pyruntime.spec.isolation import *
from pyruntime.spec.process import *
from pyruntime.spec.resources import *
import msgspec, os
_d = msgspec.json.Decoder(Spec)
def load_bundle(p):
    return _d.decode(open(p+"/config.json","rb").read())
def decode_process(p):
    return msgspec.convert(p, Process) if isinstance(p, dict) else p
