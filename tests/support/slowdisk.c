// Makes every flush to the disk as slow as SLOW_DISK_MS says, and wait while the file SLOW_DISK_WHILE is there: LD_PRELOAD.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_ms(void) {
    const char *said = getenv("SLOW_DISK_MS");
    long ms = said ? atol(said) : 0;
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
    const char *held = getenv("SLOW_DISK_WHILE");
    struct timespec step = {0, 10 * 1000000L};
    while (held && access(held, F_OK) == 0) nanosleep(&step, NULL);
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_ms();
    return real(fd);
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_ms();
    return real(fd);
}
