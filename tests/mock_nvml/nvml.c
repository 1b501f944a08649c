/* A libnvidia-ml.so.1 of one board, for tests of what reads it through pynvml.
 *
 * Signatures and structures follow nvml.h. The board's figures come from the environment, so that one build serves all
 * tests; energy grows with every call as it would with time. MOCK_NVML_BROKEN makes initialisation fail, and
 * MOCK_NVML_NO_ENERGY makes the board one without the counter. With MOCK_DEVICE, the folder of the mock libcuda, what
 * its living clients have taken is used too.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };

typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

static unsigned long long number(const char *name, unsigned long long otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static unsigned long long energy_mj;

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) { (void)flags; return getenv("MOCK_NVML_BROKEN") ? DRIVER_NOT_LOADED : OK; }
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(nvmlReturn_t code) { (void)code; return "mock"; }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    *device = (nvmlDevice_t)1;
    return index == 0 ? OK : NOT_FOUND;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    *device = (nvmlDevice_t)1;
    return strcmp(uuid, "GPU-mock-0") == 0 ? OK : NOT_FOUND;
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *name, unsigned int length) {
    (void)d; strncpy(name, "Mock GPU 8GB", length); return OK;
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *uuid, unsigned int length) {
    (void)d; strncpy(uuid, "GPU-mock-0", length); return OK;
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

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *memory) {
    (void)d;
    memory->total = number("MOCK_NVML_TOTAL", 8ULL << 30);
    memory->used = number("MOCK_NVML_USED", 1ULL << 30) + taken_by_clients();
    memory->free = memory->total - memory->used;
    return OK;
}
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t d, unsigned long long *energy) {
    (void)d;
    if (getenv("MOCK_NVML_NO_ENERGY")) return NOT_SUPPORTED;
    *energy = energy_mj += 1000;
    return OK;
}
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned int *milliwatts) { (void)d; *milliwatts = 250000; return OK; }
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, unsigned int type, unsigned int *mhz) {
    (void)d; *mhz = type == 1 ? 1980 : 0; return OK;
}
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t d, unsigned long long *reasons) {
    (void)d; *reasons = number("MOCK_NVML_SLOWED", 0); return OK;
}
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t d, unsigned int *mode) {
    (void)d; *mode = (unsigned int)number("MOCK_NVML_COMPUTE_MODE", 0); return OK;
}
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t d, unsigned int *milliwatts) { (void)d; *milliwatts = 350000; return OK; }
