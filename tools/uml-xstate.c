/* Lets a User-Mode Linux of before 6.13 run on processors with AMX, as a library that is loaded before libc.
 *
 * Such a kernel keeps 2696 bytes of a process's extended registers. Where the processor has more of them, the host
 * takes back only the whole set (11008 bytes with AMX) and answers EFAULT, and the guest dies with its first process.
 * No guest uses what is beyond: the set is made whole with what the host itself gives there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

enum { MOST = 1 << 16 };

typedef long call(enum __ptrace_request, long, long, long);

long ptrace(enum __ptrace_request request, ...) {
    static call *libc;
    static char whole[MOST];
    __builtin_va_list list;
    __builtin_va_start(list, request);
    long pid = __builtin_va_arg(list, long), address = __builtin_va_arg(list, long);
    long data = __builtin_va_arg(list, long);
    __builtin_va_end(list);
    if (!libc)
        libc = (call *)dlsym(RTLD_NEXT, "ptrace");
    long done = libc(request, pid, address, data);
    if (request != PTRACE_SETREGSET || address != NT_X86_XSTATE || done == 0 || errno != EFAULT)
        return done;
    const struct iovec *part = (const struct iovec *)data;
    struct iovec all = {whole, MOST};
    if (libc(PTRACE_GETREGSET, pid, NT_X86_XSTATE, (long)&all) != 0 || part->iov_len > all.iov_len) {
        errno = EFAULT;
        return -1;
    }
    memcpy(whole, part->iov_base, part->iov_len);
    return libc(PTRACE_SETREGSET, pid, NT_X86_XSTATE, (long)&all);
}
