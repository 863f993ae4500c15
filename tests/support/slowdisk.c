// Makes every flush to the disk as slow as SLOW_DISK_MS says: LD_PRELOAD of the chaos tests.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_ms(void) {
    const char *said = getenv("SLOW_DISK_MS");
    long ms = said ? atol(said) : 0;
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
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
