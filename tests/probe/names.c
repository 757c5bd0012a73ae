#include <string.h>

#include "probe.h"

/* made by probing.py from the headers' macros */
#include "tables.h"

const char *name_of(const struct name *names, long value)
{
	for (; names->text; names++)
		if (names->value == value)
			return names->text;
	return NULL;
}

const struct name *named(const struct name *names, const char *text)
{
	for (; names->text; names++)
		if (!strcmp(names->text, text))
			return names;
	return NULL;
}
