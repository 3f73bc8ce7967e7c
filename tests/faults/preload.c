/* Loaded in front of libc into the daemon under test: counts the calls that make things durable or tell others about
   it, and at the chosen one kills the process, tears the write, or makes it fail. It also shifts the clock and can make
   fsync do nothing. A mapped file (FAULTS_CONTROL) holds the orders; `fault_switch.py` writes them, at any time. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OFF, KILL, TEAR, FAIL, FAIL_ON };
enum { PWRITE, WRITE, FSYNC, RENAME, LINK, UNLINK, SEND, TRUNCATE, KINDS };

struct control {
    uint32_t mode, mask, error, nosync;
    int64_t at, count, offset_s, hit;
    int64_t kinds[KINDS];
};

static struct control none, *control = &none;

__attribute__((constructor)) static void load(void) {
    const char *path = getenv("FAULTS_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(0, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(fd);
}

#define REAL(name) ({ static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* 0: go on; 1: write half of it, then `die`; -1: errno is set. */
static int reached(int kind) {
    if (control->mode == OFF || !(control->mask & (1u << kind))) return 0;
    __atomic_add_fetch(&control->kinds[kind], 1, __ATOMIC_SEQ_CST);
    int64_t now = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (control->at == 0 || now < control->at) return 0;
    if (control->mode != FAIL_ON && now > control->at) return 0;
    control->hit = kind + 1;
    switch (control->mode) {
    case KILL:
        die();
        break;
    case TEAR:
        if (kind == PWRITE || kind == WRITE || kind == SEND) return 1;
        die();
        break;
    case FAIL:
    case FAIL_ON:
        errno = control->error;
        return -1;
    }
    return 0;
}

/* Bells between threads, pipes and the log are nobody's promise. */
static int counts(int fd) {
    struct stat found;
    if (control->mode == OFF || fd <= 2 || fstat(fd, &found) < 0) return -1;
    return S_ISREG(found.st_mode) ? WRITE : S_ISSOCK(found.st_mode) ? SEND : -1;
}

#define SYNC(name)                                   \
    int name(int fd) {                               \
        if (reached(FSYNC) < 0) return -1;           \
        return control->nosync ? 0 : REAL(name)(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define PWRITES(name, offset_type)                                            \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) { \
        int what = reached(PWRITE);                                           \
        if (what < 0) return -1;                                              \
        if (what) {                                                           \
            REAL(name)(fd, data, size / 2, offset);                           \
            die();                                                            \
        }                                                                     \
        return REAL(name)(fd, data, size, offset);                            \
    }
PWRITES(pwrite, off_t)
PWRITES(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t size) {
    int kind = counts(fd), what = kind < 0 ? 0 : reached(kind);
    if (what < 0) return -1;
    if (what) {
        REAL(write)(fd, data, size / 2);
        die();
    }
    return REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    int kind = counts(fd), what = kind < 0 ? 0 : reached(kind);
    if (what < 0) return -1;
    if (what) {
        REAL(writev)(fd, parts, (number + 1) / 2);
        die();
    }
    return REAL(writev)(fd, parts, number);
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    int what = reached(SEND);
    if (what < 0) return -1;
    if (what) {
        REAL(send)(fd, data, size / 2, flags);
        die();
    }
    return REAL(send)(fd, data, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (reached(SEND)) die();
    return REAL(sendmsg)(fd, message, flags);
}

#define PLAIN(kind, name, declared, given) \
    int name declared {                    \
        int what = reached(kind);          \
        return what < 0 ? -1 : REAL(name) given; \
    }
PLAIN(RENAME, rename, (const char *from, const char *to), (from, to))
PLAIN(RENAME, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
PLAIN(LINK, link, (const char *from, const char *to), (from, to))
PLAIN(LINK, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
PLAIN(UNLINK, unlink, (const char *path), (path))
PLAIN(UNLINK, unlinkat, (int a, const char *path, int flags), (a, path, flags))
PLAIN(TRUNCATE, ftruncate, (int fd, off_t size), (fd, size))
PLAIN(TRUNCATE, ftruncate64, (int fd, off64_t size), (fd, size))

int clock_gettime(clockid_t which, struct timespec *now) {
    int done = REAL(clock_gettime)(which, now);
    if (done == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += control->offset_s;
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int done = REAL(gettimeofday)(now, zone);
    if (done == 0) now->tv_sec += control->offset_s;
    return done;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
