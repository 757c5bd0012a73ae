/* What abi.h is, for plans that are kept in files. */

/* A plan in a file, which the front end of the command line executes without making it again. Behind this come, each as long as is said
 * here: the plan, the places in it where a value goes (struct kept_hole), the key, the record of the container that is made, the path of its
 * root, and that of its cgroup; then what is warned of, as lines for people and as lines of JSON. All texts have the bytes of enum kept_place
 * where something goes that is not known before. */
struct kept_plan {
    uint64_t build;         /* build_identity */
    uint64_t clone_flags;
    uint32_t plan_size;     /* all sizes in bytes; of the plan a multiple of 8, behind which its own size says where it ends */
    uint32_t holes_size;
    uint32_t key_size;
    uint32_t record_size;
    uint32_t rootfs_size;
    uint32_t cgroup_size;
    int32_t cgroup_slot;
    uint32_t succession;    /* enum succession, as far as it is known before */
    uint32_t text_size;
    uint32_t json_size;
};

struct kept_hole {
    uint32_t offset;
    uint32_t value;
};

/* No text of JSON has such bytes. Behind KEPT_VALUE stands which one, as one byte: 1 is the id. */
enum kept_place { KEPT_VALUE = 1, KEPT_PID, KEPT_START_TIME, KEPT_NOW };

#define KEPT_KEY_LIMIT 4194304
#define KEPT_VALUES_MAX 64
#define KEPT_VALUE_LIMIT 256

/* In what one container differs from others of an engine: its id, and names and times that were generated, each of them once. */
struct kept_value {
    uint32_t size;
    char text[KEPT_VALUE_LIMIT];
};

struct kept_values {
    uint32_t count;
    struct kept_value values[KEPT_VALUES_MAX];
};

/* Put a place where each generated value stands in a text, which stays as long as it is, and remember them: 0, or -EINVAL where there are
 * such bytes already. */
int take_values(char *text, uint64_t size, struct kept_values *values);

/* Put others, each as long as the one before, where those values stand. */
void exchange_values(char *text, uint64_t size, const struct kept_values *from, const struct kept_values *to);

/* What a kept plan for a command line (ends with NULL, without the program) has to have as its key, and the file where it is: the length of
 * the key, or -EINVAL where there can be none, or -errno. ret_path has room for 4096 bytes. What is not in the key is in the values. */
int64_t read_kept_key(char **arguments, char *ret_key, uint64_t size, char *ret_path, struct kept_values *ret_values);

/* Of all sources: plans are for the programs that they were made with. */
extern const uint64_t build_identity;
extern const char build_commit[];
