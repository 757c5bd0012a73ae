/* A copy of mounts, made by the caller's side or, where the caller may not, by the init in a mount namespace of its own. */
#ifndef PYRUNTIME_TREE_H
#define PYRUNTIME_TREE_H

#include <stdint.h>

/* Of a path, or with an empty one of the descriptor itself. number: 1 for recursive, propagation, the device that it must be (0: anything),
 * 1 for a block device. A descriptor, or -errno and what was being done. */
int copy_tree(int directory, const char *path, const uint64_t *number, const char **ret_doing);

#endif
