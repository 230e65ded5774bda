/* Clock and syncs of one process, as the test that started it wishes; it may change its mind at any
 * time. Loaded before the C library (LD_PRELOAD). The wishes are in a file, mapped into memory: see
 * shim.rs, which has the same fields in the same order. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;

struct wishes {
    volatile int64_t ahead_seconds;   /* of the wall clock */
    volatile int64_t rate_thousandths; /* of all clocks; 0 for as they are */
    volatile int64_t syncs_hang;
    volatile int64_t hanging; /* how often one began to hang: told to the test */
};

static struct wishes *wishes;
static struct timespec began;

__attribute__((constructor)) static void load(void)
{
    const char *path = getenv("PERCOLATE_SHIM");
    int file = path ? open(path, O_RDWR) : -1;
    void *memory;

    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &began);
    if (file < 0)
        return;
    memory = mmap(NULL, sizeof *wishes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED)
        wishes = memory;
}

/* Nanoseconds by which the clock is off because it runs fast or slow. */
static int64_t gained(void)
{
    struct timespec now;
    int64_t elapsed;

    if (wishes->rate_thousandths == 0)
        return 0;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    elapsed = (now.tv_sec - began.tv_sec) * SECOND + now.tv_nsec - began.tv_nsec;
    return elapsed / 1000 * (wishes->rate_thousandths - 1000);
}

static void add(struct timespec *time, int64_t seconds, int64_t nanoseconds)
{
    int64_t sum = time->tv_nsec + nanoseconds;

    time->tv_sec += seconds + sum / SECOND;
    time->tv_nsec = sum % SECOND;
    if (time->tv_nsec < 0) {
        time->tv_nsec += SECOND;
        time->tv_sec -= 1;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long failed = syscall(SYS_clock_gettime, clock, now);

    if (failed || !wishes)
        return (int)failed;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        add(now, wishes->ahead_seconds, gained());
    else if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME)
        add(now, 0, gained());
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec precise;

    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}

static void wait_for_disk(void)
{
    const struct timespec millisecond = {0, 1000000};

    if (!wishes || !wishes->syncs_hang)
        return;
    __sync_fetch_and_add(&wishes->hanging, 1);
    while (wishes->syncs_hang)
        nanosleep(&millisecond, NULL);
}

int fsync(int file)
{
    wait_for_disk();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, file);
}
