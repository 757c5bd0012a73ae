/* Reading an encoded plan: bounds are checked once, before anything is executed. */
#ifndef PYRUNTIME_PLAN_H
#define PYRUNTIME_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "abi.h"

struct plan {
    char *base;
    const struct plan_header *header;
    const struct operation *host;
    const struct operation *child;
    const struct operation *init;
};

/* Check every kind, offset, list and slot. -EBADMSG: not a plan that our encoder makes. */
int open_plan(void *data, uint64_t size, struct plan *ret_plan);

/* The operand, or NULL for none. */
static inline const char *plan_text(const struct plan *plan, const struct operation *op, int index)
{
    return op->text[index] ? plan->base + op->text[index] : NULL;
}

/* A list operand: `for (const char *item; (item = plan_item(plan, op, 1, i)); i++)`. */
static inline const char *plan_item(const struct plan *plan, const struct operation *op, int index, uint32_t position)
{
    uint64_t offset = ((const uint64_t *)(const void *)(plan->base + op->text[index]))[position];
    return offset ? plan->base + offset : NULL;
}

/* Turn a list operand into the vector of pointers that execve wants, in place and once. */
char **plan_vector(const struct plan *plan, const struct operation *op, int index);

#endif
