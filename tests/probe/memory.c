#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "probe.h"

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif
#define SIZE (2UL << 20)

/* how many huge pages of 2 MiB could be mapped and written to; `rest` is how many are tried, one by one */
void hugepages(const char *key, const char *rest)
{
	long wanted = rest ? atol(rest) : 1, i;

	for (i = 0; i < wanted; i++) {
		volatile char *page = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
		if (page == MAP_FAILED)
			break;
		*page = 1;
	}
	number(key, i);
}
