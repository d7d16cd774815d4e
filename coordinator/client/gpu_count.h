#ifndef KVEC_COORDINATOR_CLIENT_GPU_COUNT_H_
#define KVEC_COORDINATOR_CLIENT_GPU_COUNT_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/cluster/placement.h"

namespace kvec::coordinator::client {

struct GpuCount {
  int per_host = 1;
  int num_hosts = 1;
};

// "8" or "8x2": 8 GPUs on each of 2 hosts. INVALID_ARGUMENT for anything else.
absl::StatusOr<GpuCount> ParseGpuCount(absl::string_view text);

// Uses all of them: ranks within a host, as many as divide the query heads; stages for the rest.
cluster::ParallelShape ShapeFor(const GpuCount& gpus, int num_heads);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_GPU_COUNT_H_
