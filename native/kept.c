/* Plans that are kept in files, and what tells for which command line one is. */
#define _GNU_SOURCE
#include "kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define PATH_SIZE 4096

/* What is being put together; once it has failed it stays so. */
struct key {
    char *data;
    uint64_t length;
    uint64_t size;
    int error;
};

static void add_bytes(struct key *key, const void *data, uint64_t size)
{
    if (!key->error && size > key->size - key->length)
        key->error = -E2BIG;
    if (key->error)
        return;
    memcpy(key->data + key->length, data, size);
    key->length += size;
}

/* The part from there on without the values that others of its kind do not share. */
static void generalize(struct key *key, uint64_t begin, struct kept_values *values)
{
    if (!key->error)
        key->error = take_values(key->data + begin, key->length - begin, values);
}

/* With its NUL, so that no two rows of texts are the same bytes. */
static void add_text(struct key *key, const char *text)
{
    add_bytes(key, text, strlen(text) + 1);
}

/* A pipe would be empty for who reads it after us. */
static void add_file(struct key *key, const char *path)
{
    struct stat st;

    if (!key->error && (stat(path, &st) < 0 || !S_ISREG(st.st_mode)))
        key->error = -EINVAL;
    if (key->error)
        return;
    int64_t length = read_file(path, key->data + key->length, key->size - key->length);
    if (length < 0) {
        key->error = (int)length;
        return;
    }
    key->length += (uint64_t)length;
    add_text(key, "");
}

/* The lines of a file in which a word stands that is asked for. */
static void add_lines(struct key *key, const char *path, const char *const *words)
{
    uint64_t begin = key->length;

    add_file(key, path);
    if (key->error)
        return;
    char *to = key->data + begin, *end = key->data + key->length - 1, *next;
    for (char *line = to; line < end; line = next) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        next = newline ? newline + 1 : end;
        bool is_wanted = false;
        for (int i = 0; words[i] && !is_wanted; i++)
            is_wanted = memmem(line, (size_t)(next - line), words[i], strlen(words[i]));
        if (!is_wanted)
            continue;
        memmove(to, line, (size_t)(next - line));
        to += next - line;
    }
    key->length = (uint64_t)(to - key->data);
    add_text(key, "");
}

/* What pyruntime/host.py reads, as far as plans are made of it. */
static void add_host(struct key *key, bool has_mounts)
{
    static const char *const mounts[] = {" - cgroup", " - resctrl ", NULL};
    static const char *const capabilities[] = {"CapPrm:", "CapBnd:", NULL};
    static const char apparmor[] = "/sys/module/apparmor/parameters/enabled";
    struct utsname host;

    if (uname(&host) < 0 || access("/sys/fs/selinux/enforce", F_OK) == 0) {
        key->error = -EINVAL;
        return;
    }
    add_text(key, host.release);
    add_lines(key, "/proc/thread-self/status", capabilities);
    if (access(apparmor, F_OK) == 0)
        add_file(key, apparmor);
    add_text(key, "");
    if (has_mounts)
        add_lines(key, "/proc/self/mountinfo", mounts);
}

static void add_options(struct key *key, const struct line *line, const char *without)
{
    for (int i = 0; i < line->option_count; i++) {
        if (is_among(line->options[i].name, without))
            continue;
        add_text(key, line->options[i].name);
        add_text(key, line->options[i].value);
    }
    add_text(key, "");
}

static void add_exec(struct key *key, struct front *front)
{
    char path[PATH_SIZE];
    struct stat st;
    const char *process = option_of(&front->line, "process");

    /* what comes through a pipe can be read once, by Python */
    if ((process && (stat(process, &st) < 0 || !S_ISREG(st.st_mode))) || load_record(front)
        || name_in_directory(front, "state.json", path, sizeof path)) {
        key->error = -EINVAL;
        return;
    }
    add_file(key, path);
    add_host(key, false);
    add_options(key, &front->line, "process detach pid_file");
    for (char **word = front->line.rest; *word; word++)
        add_text(key, *word);
    add_text(key, "");
    if (!process && snprintf(path, sizeof path, "%s/config.json", front->record.bundle) >= (int)sizeof path)
        key->error = -ENAMETOOLONG;
    add_file(key, process ? process : path);
}

static void add_bundle(struct key *key, struct front *front, struct kept_values *values)
{
    char path[PATH_SIZE];
    uint64_t length = strlen(front->id);

    if (bundle_of(&front->line, path, sizeof path - sizeof "/config.json") || front->line.has_other_cgroups) {
        key->error = -EINVAL;
        return;
    }
    add_host(key, true);
    add_text(key, front->line.root);
    add_bytes(key, &length, sizeof length);
    add_options(key, &front->line, "bundle detach pid_file keep no_subreaper");
    uint64_t begin = key->length;
    add_text(key, path);
    strcat(path, "/config.json");
    add_file(key, path);
    generalize(key, begin, values);
}

/* FNV-1a: it is only a name, and what is compared is the key itself. */
static uint64_t hash_of(const struct key *key)
{
    uint64_t hash = 0xcbf29ce484222325ULL;

    for (uint64_t i = 0; i < key->length; i++)
        hash = (hash ^ (unsigned char)key->data[i]) * 0x100000001b3ULL;
    return hash;
}

int64_t read_kept_key(char **arguments, char *ret_key, uint64_t size, char *ret_path, struct kept_values *ret_values)
{
    struct key key = {.data = ret_key, .size = size};
    struct front front;

    if (locate(arguments, &front))
        return -EINVAL;
    ret_values->count = 1;
    ret_values->values[0].size = (uint32_t)strlen(front.id);
    memcpy(ret_values->values[0].text, front.id, ret_values->values[0].size + 1);
    add_bytes(&key, &build_identity, sizeof build_identity);
    bool is_exec = !strcmp(front.line.command, "exec");
    if (is_exec)
        add_exec(&key, &front);
    else
        add_bundle(&key, &front, ret_values);
    if (key.error)
        return key.error;
    int length = snprintf(ret_path, PATH_SIZE, is_exec ? "%s/exec-%016lx" : "%s/.plans/%016lx",
                          is_exec ? front.directory : front.line.root, hash_of(&key));
    return length < PATH_SIZE ? (int64_t)key.length : -ENAMETOOLONG;
}

static void free_key(char **key)
{
    free(*key);
}

static int map_file(const char *path, struct kept *ret_kept)
{
    struct stat st;
    AUTO_FD fd = open_at(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW, 0, 0);

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct kept_plan) || st.st_uid != geteuid()
        || st.st_mode & (S_IWGRP | S_IWOTH))
        return HAND_OVER;
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return HAND_OVER;
    futimens(fd, NULL);  /* what was used last stays longest */
    const struct kept_plan *head = data;
    ret_kept->head = head;
    ret_kept->size = (uint64_t)st.st_size;
    uint64_t all = sizeof *head + (uint64_t)head->plan_size + head->holes_size + head->key_size + head->record_size + head->rootfs_size
                   + head->cgroup_size + head->text_size + head->json_size;
    if (head->build != build_identity || all != ret_kept->size)
        return HAND_OVER;
    ret_kept->plan = (char *)data + sizeof *head;
    ret_kept->holes = ret_kept->plan + head->plan_size;
    ret_kept->key = ret_kept->holes + head->holes_size;
    ret_kept->record = ret_kept->key + head->key_size;
    ret_kept->rootfs = ret_kept->record + head->record_size;
    ret_kept->cgroup = ret_kept->rootfs + head->rootfs_size;
    ret_kept->text = ret_kept->cgroup + head->cgroup_size;
    ret_kept->json = ret_kept->text + head->text_size;
    return 0;
}

int find_kept(char **arguments, struct kept *ret_kept)
{
    char path[PATH_SIZE];
    __attribute__((cleanup(free_key))) char *key = malloc(KEPT_KEY_LIMIT);
    int64_t length = key ? read_kept_key(arguments, key, KEPT_KEY_LIMIT, path, &ret_kept->values) : -ENOMEM;

    if (length < 0 || map_file(path, ret_kept))
        return HAND_OVER;
    /* what it says is done, so nobody else may have put it there */
    *strrchr(path, '/') = 0;
    if (!is_nobody_elses(path))
        return HAND_OVER;
    return ret_kept->head->key_size == (uint64_t)length && !memcmp(ret_kept->key, key, (size_t)length) ? 0 : HAND_OVER;
}

void unmap_kept(const struct kept *kept)
{
    if (kept->head)
        munmap((void *)(uintptr_t)kept->head, kept->size);
}
