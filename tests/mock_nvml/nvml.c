/* A libnvidia-ml.so.1 of boards alike, for tests of what reads it through pynvml.
 *
 * Signatures and structures follow nvml.h. The boards' figures come from the environment, so that one build serves all
 * tests; energy grows with every call as it would with time. As on real boards the driver keeps memory for itself, which
 * the first version of the memory call counts as used, and MIG is not supported unless it is asked about.
 *
 *   MOCK_NVML_BROKEN         initialisation fails
 *   MOCK_NVML_UNSUPPORTED    names of calls that answer NOT_SUPPORTED: boards lack the energy counter, or memory of their own
 *   MOCK_NVML_COUNT          boards
 *   MOCK_NVML_NAME, _TOTAL   their name, and memory in bytes
 *   MOCK_NVML_USED, _PIDS    what somebody else uses of a board in bytes, and his processes as far as they can be seen
 *   MOCK_NVML_COMPUTE_MODE, _MIG
 *   MOCK_NVML_SLOWED         bits of the clocks' event reasons
 *   MOCK_NVML_LOST_AFTER     calls for its memory after which the board has fallen off the bus
 *
 * With MOCK_DEVICE, the folder of the mock libcuda, what its living clients have taken is used too.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } nvmlProcessInfo_t;

static unsigned long long number(const char *name, unsigned long long otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static unsigned long long energy_mj, memory_calls;

static int unsupported(const char *call) {
    const char *all = getenv("MOCK_NVML_UNSUPPORTED");
    const char *found = all ? strstr(all, call) : NULL;
    return found && (found[strlen(call)] == 0 || found[strlen(call)] == ' ');
}
#define SUPPORTED if (unsupported(__func__)) return NOT_SUPPORTED

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) { (void)flags; return getenv("MOCK_NVML_BROKEN") ? DRIVER_NOT_LOADED : OK; }
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(nvmlReturn_t code) { (void)code; return "mock"; }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    *device = (nvmlDevice_t)(index + 1UL);
    return index < number("MOCK_NVML_COUNT", 1) ? OK : INVALID;
}
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) { *count = (unsigned int)number("MOCK_NVML_COUNT", 1); return OK; }
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t d, unsigned int *index) { *index = (unsigned int)((size_t)d - 1); return OK; }
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    if (strncmp(uuid, "GPU-mock-", 9) || !uuid[9]) return NOT_FOUND;
    return nvmlDeviceGetHandleByIndex_v2((unsigned int)strtoul(uuid + 9, NULL, 10), device) == OK ? OK : NOT_FOUND;
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *name, unsigned int length) {
    const char *given = getenv("MOCK_NVML_NAME");
    (void)d; strncpy(name, given ? given : "Mock GPU 8GB", length); return OK;
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *uuid, unsigned int length) {
    snprintf(uuid, length, "GPU-mock-%zu", (size_t)d - 1); return OK;
}
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    strncpy(version, "580.00", length); return OK;
}
static unsigned long long taken_by_clients(void) {
    unsigned long long sum = 0, bytes;
    const char *device = getenv("MOCK_DEVICE");
    DIR *folder = device ? opendir(device) : NULL;
    for (struct dirent *one; folder && (one = readdir(folder));) {
        char path[512];
        pid_t pid = (pid_t)strtoul(one->d_name, NULL, 10);
        snprintf(path, sizeof path, "%s/%s", device, one->d_name);
        FILE *file = pid && !kill(pid, 0) ? fopen(path, "r") : NULL;
        if (!file) continue;
        if (fscanf(file, "%llu", &bytes) == 1) sum += bytes;
        fclose(file);
    }
    if (folder) closedir(folder);
    return sum;
}

static void memory_of_board(nvmlMemory_v2_t *memory) {
    memory->total = number("MOCK_NVML_TOTAL", 8ULL << 30);
    memory->reserved = 1ULL << 30;
    memory->used = number("MOCK_NVML_USED", 0) + taken_by_clients();
    memory->free = memory->total - memory->reserved - memory->used;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *memory) {
    SUPPORTED;
    (void)d; memory_of_board(memory); return OK;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *memory) {
    SUPPORTED;
    nvmlMemory_v2_t apart;
    (void)d;
    if (++memory_calls > number("MOCK_NVML_LOST_AFTER", ~0ULL)) return GPU_IS_LOST;
    memory_of_board(&apart);
    *memory = (nvmlMemory_t){apart.total, apart.free, apart.reserved + apart.used};
    return OK;
}
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *current, unsigned int *pending) {
    (void)d;
    if (!getenv("MOCK_NVML_MIG")) return NOT_SUPPORTED;
    *current = *pending = (unsigned int)number("MOCK_NVML_MIG", 0);
    return OK;
}
nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t d, unsigned int *is_mig) { (void)d; *is_mig = 0; return OK; }
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, unsigned int *count, nvmlProcessInfo_t *infos) {
    SUPPORTED;
    unsigned int room = *count;
    char *at = getenv("MOCK_NVML_PIDS"), *end;
    (void)d;
    for (*count = 0; at; at = end) {
        unsigned long pid = strtoul(at, &end, 10);
        if (end == at) break;
        if (infos && *count < room) infos[*count] = (nvmlProcessInfo_t){(unsigned int)pid, 256ULL << 20, ~0U, ~0U};
        ++*count;
    }
    return *count > room ? INSUFFICIENT_SIZE : OK;
}
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t d, unsigned long long *energy) {
    SUPPORTED;
    (void)d;
    *energy = energy_mj += 1000;
    return OK;
}
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned int *milliwatts) {
    SUPPORTED;
    (void)d; *milliwatts = 250000; return OK;
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, unsigned int type, unsigned int *mhz) {
    SUPPORTED;
    (void)d; *mhz = type == 1 ? 1980 : 0; return OK;
}
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t d, unsigned long long *reasons) {
    SUPPORTED;
    (void)d; *reasons = number("MOCK_NVML_SLOWED", 0); return OK;
}
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t d, unsigned int *mode) {
    SUPPORTED;
    (void)d; *mode = (unsigned int)number("MOCK_NVML_COMPUTE_MODE", 0); return OK;
}
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t d, unsigned int *milliwatts) { (void)d; *milliwatts = 350000; return OK; }
