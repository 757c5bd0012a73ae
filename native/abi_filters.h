/* What abi.h is, for filters of system calls, which libseccomp makes. */

/* libseccomp's token of an architecture, 0: it knows none of that name. NULL is this machine's. */
uint32_t filter_architecture(const char *name);

/* major << 16 | minor << 8 | micro */
uint32_t filter_library_version(void);

/* The numbers of system calls; names are one behind the other, each with its NUL. Below 0: there is none on that architecture; -1: nor on
 * any other that libseccomp knows. */
void resolve_calls(uint32_t architecture, const char *names, int count, int32_t *ret_numbers);

struct filter_comparison {
    uint32_t argument;
    uint32_t operator;      /* enum scmp_compare of libseccomp */
    uint64_t value;
    uint64_t value_two;
};

/* The action of a call, by its number on this machine, if all comparisons hold: so many from `first` on. */
struct filter_rule {
    uint32_t action;
    int32_t number;
    uint32_t first;
    uint32_t count;
};

/* The program of a filter: its bytes, which are not more than size. On failure ret_failed is the rule that was refused, -1: none. */
int64_t build_filter(uint32_t default_action, const uint32_t *architectures, int architecture_count, const struct filter_rule *rules,
                     int rule_count, const struct filter_comparison *comparisons, char *ret_program, uint64_t size, int *ret_failed);

/* Whether an architecture can be in one filter with this machine's: 0 or -errno (-EDOM: it has another byte order). */
int check_architecture(uint32_t architecture);
