/* Makes a disk fail under one process, to the letter: loaded by LD_PRELOAD, it counts what the process does to files whose
 * path begins with a prefix, and ends the process before the Nth of these (as a kill would, with half of a write done or
 * nothing), or refuses to let the files grow beyond so many bytes (as a full disk does).
 *
 * The harness is tests/faults/disk.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char prefix[PATH_MAX];
static atomic_long seen, die_at = -1, room = -1;
static atomic_int torn;

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* die: the operation, from 1 on, before which the process ends; -1: never. half: a write is half done then.
 * bytes: by how many the files may grow; -1: any. */
void disk_arm(const char *path, long die, int half, long bytes) {
    strncpy(prefix, path, sizeof prefix - 1);
    seen = 0;
    die_at = die;
    torn = half;
    room = bytes;
}
long disk_seen(void) { return seen; }

static int ours(const char *path) { return prefix[0] && strncmp(path, prefix, strlen(prefix)) == 0; }
static int ours_fd(int fd) {
    char link[40], path[PATH_MAX];
    if (!prefix[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return ours(path);
}
static void end(void) { kill(getpid(), SIGKILL); for (;;) pause(); }
static int due(void) { return atomic_fetch_add(&seen, 1) + 1 == die_at; }

/* Bytes that may be written at `offset`, the disk being as full as it is. */
static size_t granted(int fd, size_t count, off_t offset) {
    struct stat s;
    if (room < 0 || fstat(fd, &s) || offset + (off_t)count <= s.st_size) return count;
    long growth = offset + (long)count - s.st_size;
    if (growth <= room) { room -= growth; return count; }
    long allowed = (long)count - growth + room;
    room = 0;
    return allowed > 0 ? (size_t)allowed : 0;
}

ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    if (!ours_fd(fd)) return real(fd, buffer, count, offset);
    if (due()) {
        if (torn) real(fd, buffer, count / 2, offset);
        end();
    }
    size_t may = granted(fd, count, offset);
    if (count && !may) { errno = ENOSPC; return -1; }
    return real(fd, buffer, may, offset);
}
ssize_t pwrite64(int fd, const void *buffer, size_t count, off_t offset) { return pwrite(fd, buffer, count, offset); }
ssize_t write(int fd, const void *buffer, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    if (!ours_fd(fd)) return real(fd, buffer, count);
    if (due()) {
        if (torn) real(fd, buffer, count / 2);
        end();
    }
    off_t at = lseek(fd, 0, SEEK_CUR);
    size_t may = granted(fd, count, at < 0 ? 0 : at);
    if (count && !may) { errno = ENOSPC; return -1; }
    return real(fd, buffer, may);
}
int ftruncate(int fd, off_t length) {
    REAL(int, ftruncate, int, off_t);
    if (!ours_fd(fd)) return real(fd, length);
    if (due()) end();
    struct stat s;
    if (room >= 0 && !fstat(fd, &s)) {
        if (length - s.st_size > room) { errno = ENOSPC; return -1; }
        room -= length - s.st_size;
    }
    return real(fd, length);
}
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }
int fsync(int fd) {
    REAL(int, fsync, int);
    if (ours_fd(fd) && due()) end();
    return real(fd);
}
static void freed(const char *path) {
    struct stat s;
    if (room >= 0 && !stat(path, &s) && S_ISREG(s.st_mode)) room += s.st_size;
}
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    if (ours(from) || ours(to)) {
        if (due()) end();
        freed(to);
    }
    return real(from, to);
}
int remove(const char *path) {
    REAL(int, remove, const char *);
    if (ours(path)) {
        if (due()) end();
        freed(path);
    }
    return real(path);
}
int unlink(const char *path) {
    REAL(int, unlink, const char *);
    if (ours(path)) {
        if (due()) end();
        freed(path);
    }
    return real(path);
}
int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    if (ours(path)) {
        if (due()) end();
        freed(path);
    }
    return real(folder, path, flags);
}
