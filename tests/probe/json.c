#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "probe.h"

static bool first = true;

static void quoted(const char *value, size_t size)
{
	putchar('"');
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)value[i];

		/* bytes that are no ASCII are told as the code points of the same number */
		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void place(const char *key)
{
	if (!first)
		putchar(',');
	first = false;
	if (key) {
		quoted(key, strlen(key));
		putchar(':');
	}
}

void begin(const char *key, char bracket)
{
	place(key);
	putchar(bracket);
	first = true;
}

void end(char bracket)
{
	putchar(bracket);
	first = false;
}

void bytes(const char *key, const char *value, size_t size)
{
	place(key);
	quoted(value, size);
}

void text(const char *key, const char *value)
{
	bytes(key, value, strlen(value));
}

void number(const char *key, int64_t value)
{
	place(key);
	printf("%" PRId64, value);
}

void natural(const char *key, uint64_t value)
{
	place(key);
	printf("%" PRIu64, value);
}

void truth(const char *key, bool value)
{
	place(key);
	fputs(value ? "true" : "false", stdout);
}

void failed(const char *key, int error)
{
	const char *name = name_of(errno_names, error);

	begin(key, '{');
	if (name)
		text("error", name);
	else
		number("error", error);
	end('}');
}
