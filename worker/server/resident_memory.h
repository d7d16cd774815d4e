#ifndef KVEC_WORKER_SERVER_RESIDENT_MEMORY_H_
#define KVEC_WORKER_SERVER_RESIDENT_MEMORY_H_

#include <cstdint>

namespace kvec::worker::server {

struct ResidentMemory {
  uint64_t bytes = 0;
  uint64_t peak_bytes = 0;  // since the process began
};

// Of this process; zeros where the system does not tell.
ResidentMemory GetResidentMemory();

// Memory that new allocations could get without swapping; 0 where the system does not tell.
uint64_t GetAvailableMemoryBytes();

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_RESIDENT_MEMORY_H_
