#ifndef KVEC_COORDINATOR_CLUSTER_GPU_CARDS_H_
#define KVEC_COORDINATOR_CLUSTER_GPU_CARDS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::cluster {

// The memory of a card, as its driver tells it: less than the round number in its name.
// INVALID_ARGUMENT names the cards that are known. Case does not matter.
absl::StatusOr<uint64_t> GpuMemoryBytes(absl::string_view card);

std::string KnownGpuCards();  // "A100-40, …": for messages

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_GPU_CARDS_H_
