/* Makes calls to the disk fail, in a process that is started with this library preloaded.
 *
 * The file named by PERCOLATE_DISK_FAULT holds one line: <call> <errno> <part of a path> <times>.
 * As long as it is there, and at most so many times (0: always), that call fails with that error on
 * every file whose path contains that part. Calls: sync, write, read, create.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int failed;

static int fault(const char *call, const char *path) {
    const char *where = getenv("PERCOLATE_DISK_FAULT");
    if (!where || strstr(path, where))
        return 0;
    int file = (int)syscall(SYS_openat, AT_FDCWD, where, O_RDONLY);
    if (file < 0)
        return 0;
    char line[256] = {0};
    long length = syscall(SYS_read, file, line, sizeof line - 1);
    syscall(SYS_close, file);
    char wanted[16], part[128];
    int code, times;
    if (length <= 0 || sscanf(line, "%15s %d %127s %d", wanted, &code, part, &times) != 4)
        return 0;
    if (strcmp(call, wanted) || !strstr(path, part))
        return 0;
    if (atomic_fetch_add(&failed, 1) >= times && times)
        return 0;
    return code;
}

static int fault_of(const char *call, int file) {
    char link[64], path[512] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, path, sizeof path - 1) < 0)
        return 0;
    return fault(call, path);
}

#define FAIL(call, file)                                                                            \
    do {                                                                                            \
        int code = fault_of(call, file);                                                            \
        if (code) {                                                                                 \
            errno = code;                                                                           \
            return -1;                                                                              \
        }                                                                                           \
    } while (0)

int fsync(int file) {
    FAIL("sync", file);
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    FAIL("sync", file);
    return (int)syscall(SYS_fdatasync, file);
}

ssize_t write(int file, const void *bytes, size_t count) {
    FAIL("write", file);
    return syscall(SYS_write, file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    FAIL("write", file);
    return syscall(SYS_pwrite64, file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    FAIL("write", file);
    return syscall(SYS_pwrite64, file, bytes, count, offset);
}

ssize_t pread(int file, void *bytes, size_t count, off_t offset) {
    FAIL("read", file);
    return syscall(SYS_pread64, file, bytes, count, offset);
}

ssize_t pread64(int file, void *bytes, size_t count, off64_t offset) {
    FAIL("read", file);
    return syscall(SYS_pread64, file, bytes, count, offset);
}

static int opened(const char *path, int flags, int mode) {
    if (flags & (O_CREAT | O_WRONLY | O_RDWR)) {
        int code = fault("create", path);
        if (code) {
            errno = code;
            return -1;
        }
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return opened(path, flags | O_LARGEFILE, mode);
}
