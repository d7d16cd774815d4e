#include "worker/server/resident_memory.h"

#include <fstream>
#include <string>

namespace kvec::worker::server {
namespace {

// The number behind `key` of a /proc file with lines "key: 123 kB", in bytes; 0 when not there.
uint64_t ReadKilobytes(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    if (word != key) continue;
    uint64_t kilobytes = 0;
    file >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

ResidentMemory GetResidentMemory() {
  return {ReadKilobytes("/proc/self/status", "VmRSS:"),
          ReadKilobytes("/proc/self/status", "VmHWM:")};
}

uint64_t GetAvailableMemoryBytes() { return ReadKilobytes("/proc/meminfo", "MemAvailable:"); }

}  // namespace kvec::worker::server
