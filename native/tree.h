/* A copy of mounts, made by the caller's side or, where the caller may not, by the init in a mount namespace of its own. */
#ifndef PYRUNTIME_TREE_H
#define PYRUNTIME_TREE_H

#include <stdint.h>

/* Of a path, or with an empty one of the descriptor itself. number: 1 for recursive, propagation, the device that it must be (0: anything),
 * 1 for a block device; where another or nothing is there, the host's node of that device is taken. A descriptor, or -errno and what was
 * being done. */
int copy_tree(int directory, const char *path, const uint64_t *number, const char **ret_doing);

/* What the EPERM of the next one means. */
#define LOCKED_ATTRIBUTES "locked in a user namespace: what its source has of ro, nosuid, nodev, noexec and access times"

/* Of a mount that is attached nowhere yet, and that a user namespace gets: what the kernel would lock there stays as the host has it. number:
 * attributes to set, to clear, propagation. */
int set_unlocked_attributes(int mount, const uint64_t *number);

#endif
