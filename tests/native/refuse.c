/* Loaded before libc: the kernel's refusals, on demand. REFUSE names an errno, and
 * whether "send" (a message with UDP_SEGMENT) or "write" (a superpacket) meets it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int refused(const char *what)
{
    const char *wish = getenv("REFUSE");
    size_t length = strlen(what);
    if (!wish || strncmp(wish, what, length) != 0) return 0;
    errno = atoi(wish + length + 1);
    return 1;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    int (*next)(int, struct mmsghdr *, unsigned, int);
    *(void **)&next = dlsym(RTLD_NEXT, "sendmmsg");
    unsigned plain = 0;
    while (plain < count && !messages[plain].msg_hdr.msg_control) plain++;
    if (plain == 0 && count && refused("send")) return -1;
    return next(fd, messages, refused("send") ? plain : count, flags);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t (*next)(int, const struct iovec *, int);
    *(void **)&next = dlsym(RTLD_NEXT, "writev");
    int super = count == 2 && ((const unsigned char *)parts[0].iov_base)[1] != 0;
    if (super && refused("write")) return -1;
    return next(fd, parts, count);
}
