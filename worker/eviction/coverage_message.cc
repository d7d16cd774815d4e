#include "worker/eviction/coverage_message.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "common/status_macros.h"

namespace kvec::worker::eviction {
namespace {

// n[t] of every position, then the number of layers.
absl::Span<uint8_t> AsBytes(std::vector<uint16_t>& message) {
  return {reinterpret_cast<uint8_t*>(message.data()), message.size() * sizeof(uint16_t)};
}

}  // namespace

absl::Status SendCoverage(const Coverage& coverage, int to, comm::Communicator& group) {
  std::vector<uint16_t> message = coverage.layers_selecting;
  message.push_back(static_cast<uint16_t>(coverage.num_layers));
  return group.Send(to, AsBytes(message));
}

absl::StatusOr<Coverage> ReceiveCoverage(int num_tokens, int from, comm::Communicator& group) {
  std::vector<uint16_t> message(static_cast<size_t>(num_tokens) + 1);
  KVEC_RETURN_IF_ERROR(group.Receive(from, AsBytes(message)));
  Coverage coverage;
  coverage.num_layers = message.back();
  message.pop_back();
  coverage.layers_selecting = std::move(message);
  return coverage;
}

}  // namespace kvec::worker::eviction
