/* A libcuda.so.1 of one board, for tests of what speaks to the driver through ctypes and of what MPS does to clients.
 *
 * Signatures follow cuda.h. There is no device: memory is counted, work sleeps. $MOCK_DEVICE is a folder that all
 * processes of the "device" share: each one's file, named by its process id, holds the bytes that it has taken, and
 * the mock NVML adds them up. What is as unkind as the real thing:
 *
 *   - the driver keeps some memory for itself and a context costs some, so the shares of R clients add up to less than R;
 *   - a client that finds no MPS control process runs without MPS, and says nothing;
 *   - a client killed with work in flight stalls its neighbours; with MOCK_CUDA_KILL_IS_FATAL it ends them;
 *   - a server that is gone ends its clients' calls;
 *   - with MOCK_CUDA_HANGS the first call never returns.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long u64;
enum { OK = 0, OUT_OF_MEMORY = 2, LAUNCH_FAILED = 719, MPS_CONNECTION_FAILED = 805 };
enum { MIB = 1 << 20, CONTEXT_MIB = 300, RESERVED_MIB = 256, MULTIPROCESSORS = 132 };

static u64 taken;           /* bytes, context included */
static u64 sizes[65536];    /* of each allocation: its address is its place here */
static int allocations = 1; /* 0 is no address */
static int attached, failed;

static u64 number(const char *name, u64 otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static u64 device_bytes(void) { return number("MOCK_NVML_TOTAL", 8ULL << 30); }

/* The number in a file, or 0. */
static u64 read_number(const char *folder, const char *name) {
    char path[512];
    u64 found = 0;
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", name);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%llu", &found) != 1) found = 0;
    fclose(file);
    return found;
}

static void write_number(const char *folder, const char *name, u64 value) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", name);
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%llu\n", value);
    fclose(file);
}

static int alive(u64 pid) { return pid && !kill((pid_t)pid, 0); }

static u64 used_by_all(void) {
    u64 sum = 0;
    DIR *folder = opendir(getenv("MOCK_DEVICE"));
    for (struct dirent *one; folder && (one = readdir(folder));)
        if (alive(strtoull(one->d_name, NULL, 10))) sum += read_number(getenv("MOCK_DEVICE"), one->d_name);
    if (folder) closedir(folder);
    return sum;
}

static void tell(void) {
    char pid[32];
    snprintf(pid, sizeof pid, "%d", getpid());
    write_number(getenv("MOCK_DEVICE"), pid, taken);
}

/* Bytes that this client may have. */
static u64 limit(void) {
    const char *text = getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
    return attached && text ? strtoull(text + 2, NULL, 10) * MIB : device_bytes();
}

static u64 room(void) {
    u64 mine = limit() > taken ? limit() - taken : 0;
    u64 kept = used_by_all() + (u64)RESERVED_MIB * MIB;
    u64 left = device_bytes() > kept ? device_bytes() - kept : 0;
    return mine < left ? mine : left;
}

/* A neighbour that was killed with work in flight: stalls, or ends, whoever works next. */
static int mourn(void) {
    u64 victim = read_number(getenv("MOCK_DEVICE"), "flooding");
    if (!victim || alive(victim) || victim == (u64)getpid()) return failed;
    if (getenv("MOCK_CUDA_KILL_IS_FATAL")) return failed = LAUNCH_FAILED;
    usleep(200000);
    write_number(getenv("MOCK_DEVICE"), "flooding", 0);
    return failed;
}

int cuInit(unsigned flags) {
    (void)flags;
    if (getenv("MOCK_CUDA_HANGS")) for (;;) pause();
    const char *pipe = getenv("CUDA_MPS_PIPE_DIRECTORY");
    if (pipe && alive(read_number(pipe, "nvidia-cuda-mps-control.pid"))) {
        char name[64];
        snprintf(name, sizeof name, "client-%d", getpid());
        write_number(pipe, name, 1);
        for (int i = 0; i < 500 && !alive(read_number(pipe, "server")); i++) usleep(10000);
        attached = alive(read_number(pipe, "server"));
        if (!attached) return MPS_CONNECTION_FAILED;
    }
    return OK;
}
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { (void)device; memset(uuid, 0xab, 16); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)attribute; (void)device;
    *value = attached ? MULTIPROCESSORS * (int)number("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", 100) / 100 : MULTIPROCESSORS;
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    if (room() < (u64)CONTEXT_MIB * MIB) return OUT_OF_MEMORY;
    taken += (u64)CONTEXT_MIB * MIB;
    tell();
    *context = &taken;
    return OK;
}
int cuCtxSetCurrent(void *context) { (void)context; return OK; }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    *free_bytes = room();
    *total_bytes = device_bytes();
    return failed;
}
int cuMemAlloc_v2(u64 *address, size_t size) {
    if (failed) return failed;
    if (size > room() || allocations == 65536) return OUT_OF_MEMORY;
    taken += sizes[allocations] = size;
    *address = allocations++;
    tell();
    return OK;
}
int cuMemFree_v2(u64 address) { taken -= sizes[address]; sizes[address] = 0; tell(); return failed; }
int cuMemCreate(u64 *handle, size_t size, const void *properties, u64 flags) {
    (void)flags;
    return ((const int *)properties)[0] == 1 && ((const int *)properties)[2] == 1 ? cuMemAlloc_v2(handle, size) : 1;
}
int cuMemRelease(u64 handle) { return cuMemFree_v2(handle); }
int cuMemsetD8Async(u64 address, unsigned char value, size_t size, void *stream) {
    (void)address; (void)size; (void)stream;
    static int flooding;
    if (value == 2 && !flooding++) write_number(getenv("MOCK_DEVICE"), "flooding", (u64)getpid());
    usleep(1000);
    return failed;
}
int cuCtxSynchronize(void) {
    if (attached && !alive(read_number(getenv("CUDA_MPS_PIPE_DIRECTORY"), "server"))) failed = MPS_CONNECTION_FAILED;
    return mourn();
}
int cuGetErrorName(int code, const char **name) {
    *name = code == OUT_OF_MEMORY           ? "CUDA_ERROR_OUT_OF_MEMORY"
            : code == LAUNCH_FAILED         ? "CUDA_ERROR_LAUNCH_FAILED"
            : code == MPS_CONNECTION_FAILED ? "CUDA_ERROR_MPS_CONNECTION_FAILED"
                                            : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}
