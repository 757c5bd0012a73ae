#include "plan.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

/* What the texts of an operation are: t text, l list, b block of number[0] bytes; a digit is the number of slots. */
static const char *const operands[OP_END] = {
    [OP_MAKE_CGROUP] = "t",
    [OP_ENABLE_CONTROLLERS] = "tt",
    [OP_WRITE_FILE] = "tl",
    [OP_ATTACH_DEVICE_PROGRAM] = "tb",
    [OP_OWN_CGROUP] = "t",
    [OP_OPEN_CGROUP] = "t1",
    [OP_OPEN_TASKS] = "t1",
    [OP_OPEN_TREE] = "t1",
    [OP_MAKE_USER_NAMESPACE] = "tt1",
    [OP_MAP_MOUNT_IDS] = "2",
    [OP_OPEN_NAMESPACE] = "t1",
    [OP_PASS_DESCRIPTOR] = "1",
    [OP_LISTEN_FOR_START] = "tt1",
    [OP_WRITE_CHILD_PROC] = "tt",
    [OP_RAISE_HARD_LIMIT] = "",
    [OP_MAP_CHILD_IDS] = "tl",
    [OP_RELEASE_CHILD] = "",
    [OP_PASS_SLOTS] = "",
    [OP_MAP_OFFERED_MOUNT] = "1",
    [OP_SET_AFFINITY] = "b",
    [OP_SET_MEMORY_POLICY] = "b",
    [OP_SET_PERSONALITY] = "",
    [OP_AWAIT_SCHEDULING] = "",
    [OP_RESET_AFFINITY] = "",
    [OP_RECEIVE_SLOTS] = "",
    [OP_JOIN_CGROUP] = "t1",
    [OP_JOIN_NAMESPACE] = "1",
    [OP_JOIN_PROCESS_NAMESPACES] = "1",
    [OP_AWAIT_RELEASE] = "",
    [OP_BECOME_NAMESPACE_ROOT] = "",
    [OP_UNSHARE_NAMESPACES] = "",
    [OP_OPEN_TIME_OFFSETS] = "1",
    [OP_UNSHARE_TIME_NAMESPACE] = "t1",
    [OP_ENTER_PID_NAMESPACE] = "",
    [OP_ISOLATE_PROPAGATION] = "",
    [OP_SET_ATTRIBUTES_AT] = "t",
    [OP_COPY_TREE] = "t1",
    [OP_OFFER_MOUNT] = "1",
    [OP_OPEN_PROC] = "1",
    [OP_WRITE_PROC] = "tt1",
    [OP_NEW_FILESYSTEM] = "tl1",
    [OP_NEW_TMPFS] = "tl1",
    [OP_LABEL_FILESYSTEM] = "t1",
    [OP_SET_MOUNT_ATTRIBUTES] = "1",
    [OP_SET_UNLOCKED_ATTRIBUTES] = "1",
    [OP_RECONFIGURE_FILESYSTEM] = "l1",
    [OP_COUNT_VERSIONS] = "1",
    [OP_COPY_UP] = "t1",
    [OP_PIVOT_ROOT] = "1",
    [OP_SWITCH_ROOT] = "1",
    [OP_MOUNT_ROOT] = "t1",
    [OP_USE_ROOT] = "1",
    [OP_OPEN_ROOT_PLACE] = "t1",
    [OP_PLACE_ROOT] = "2",
    [OP_ENTER_ROOT] = "1",
    [OP_ATTACH_MOUNT] = "t1",
    [OP_MAKE_DIRECTORY] = "t",
    [OP_MAKE_MOUNT_POINT] = "t",
    [OP_MAKE_NODE] = "t",
    [OP_MAKE_LINK] = "tt",
    [OP_OPEN_CONSOLE] = "",
    [OP_START_SESSION] = "",
    [OP_MASK_PATH] = "t2",
    [OP_PROTECT_PATH] = "t",
    [OP_SET_HOSTNAME] = "t",
    [OP_SET_DOMAINNAME] = "t",
    [OP_RAISE_LOOPBACK] = "",
    [OP_ANNOUNCE_NETWORK] = "",
    [OP_JOIN_SESSION_KEYRING] = "t",
    [OP_ANNOUNCE_HOOKS] = "",
    [OP_RUN_HOOK] = "ll",
    [OP_AWAIT_START] = "1",
    [OP_CHANGE_DIRECTORY] = "t",
    [OP_SET_RLIMIT] = "",
    [OP_OWN_STDIO] = "",
    [OP_SET_HOME] = "",
    [OP_SET_BOUNDING_CAPABILITIES] = "",
    [OP_SET_APPARMOR_PROFILE] = "t1",
    [OP_SET_IDENTITY] = "b",
    [OP_SET_CAPABILITIES] = "",
    [OP_SET_AMBIENT_CAPABILITIES] = "",
    [OP_SET_NO_NEW_PRIVILEGES] = "",
    [OP_SET_UMASK] = "",
    [OP_FIND_PROGRAM] = "ll",
    [OP_INSTALL_FILTER] = "b",
    [OP_EXECUTE_PROGRAM] = "ll",
    [OP_REFUSE_START] = "",
};

/* Bytes of a list, with its end and the place behind, where the init may append a variable; 0: it is none. */
static uint64_t list_size(const char *base, uint64_t size, uint32_t offset)
{
    if (offset % sizeof(uint64_t))
        return 0;
    for (uint64_t at = offset; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
        uint64_t item = *(const uint64_t *)(const void *)(base + at);
        if (!item)
            return at + 2 * sizeof(uint64_t) <= size ? at + 2 * sizeof(uint64_t) - offset : 0;
        if (item < sizeof(struct plan_header) || item >= size)
            return 0;
    }
    return 0;
}

static bool is_sound(const struct plan *plan, const struct operation *op, uint32_t slot_count)
{
    uint64_t size = plan->header->size, lengths[PLAN_TEXTS] = {0};
    int slots = 0;

    if (op->kind == 0 || op->kind >= OP_END || !operands[op->kind])
        return false;
    const char *operand = operands[op->kind];
    for (int text = 0; text < PLAN_TEXTS; text++) {
        uint32_t offset = op->text[text];
        char type = *operand;
        if (type == 't' || type == 'l' || type == 'b')
            operand++;
        else
            type = 0;
        if (!type ? offset != 0 : offset < sizeof(struct plan_header) || offset >= size)
            return false;
        if (type == 'l' && !(lengths[text] = list_size(plan->base, size, offset)))
            return false;
        if (type == 'b' && (op->number[0] > size || offset + op->number[0] >= size || offset % sizeof(uint64_t)))
            return false;
    }
    /* two lists become pointers in place, one after the other */
    if (lengths[0] && lengths[1] && op->text[0] < op->text[1] + lengths[1] && op->text[1] < op->text[0] + lengths[0])
        return false;
    if (*operand)
        slots = *operand - '0';
    for (int slot = 0; slot < PLAN_SLOTS; slot++)
        if (slot < slots ? op->slot[slot] < 0 || op->slot[slot] >= (int32_t)slot_count : op->slot[slot] != -1)
            return false;
    return true;
}

int open_plan(void *data, uint64_t size, struct plan *ret_plan)
{
    const struct plan_header *header = data;
    struct plan plan = {.base = data, .header = header};

    if (size <= sizeof *header || size > PLAN_SIZE_LIMIT || header->size != size || plan.base[size - 1] != 0)
        return -EBADMSG;
    uint64_t count = (uint64_t)header->host_count + header->child_count + header->init_count;
    if (count > (size - sizeof *header) / sizeof(struct operation))
        return -EBADMSG;
    uint64_t outside = (uint64_t)header->host_slots + header->late_slots;
    if (header->slots > PLAN_SLOT_LIMIT || outside > header->slots || header->preserve_fds > PLAN_SLOT_LIMIT ||
        header->given_fds > header->preserve_fds)
        return -EBADMSG;
    plan.host = (const void *)(plan.base + sizeof *header);
    plan.child = plan.host + header->host_count;
    plan.init = plan.child + header->child_count;
    for (uint64_t i = 0; i < count; i++) {
        bool is_of_init = &plan.host[i] >= plan.init, is_of_child = !is_of_init && &plan.host[i] >= plan.child;
        uint32_t slots = is_of_init ? header->slots : is_of_child ? (uint32_t)outside : header->host_slots;
        if (!is_sound(&plan, &plan.host[i], slots))
            return -EBADMSG;
    }
    *ret_plan = plan;
    return 0;
}

char **plan_vector(const struct plan *plan, const struct operation *op, int index)
{
    uint64_t *list = (void *)(plan->base + op->text[index]);

    for (uint64_t *item = list; *item; item++)
        *item = (uint64_t)(uintptr_t)(plan->base + *item);
    return (char **)(void *)list;
}
