#include "coordinator/cluster/stage_speeds.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>

namespace kvec::coordinator::cluster {
namespace {

constexpr double kNoise = 0.75;  // of the fastest

using Kind = std::tuple<std::string, std::string, uint32_t>;  // host, device, threads

Kind KindOf(const v1::Register& worker) {
  return {worker.host(), worker.device(), worker.threads()};
}

}  // namespace

std::vector<double> StageSpeeds(const ParallelShape& shape,
                                absl::Span<const v1::Register* const> workers) {
  std::vector<double> speeds(shape.num_stages, 1.0);
  std::map<Kind, uint64_t> best;
  uint64_t slowest = UINT64_MAX;
  for (const v1::Register* worker : workers) {
    uint64_t& of_kind = best[KindOf(*worker)];
    of_kind = std::max(of_kind, worker->read_bytes_per_second());
    slowest = std::min(slowest, worker->read_bytes_per_second());
  }
  if (slowest == 0) return speeds;
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    uint64_t of_stage = UINT64_MAX;
    for (int rank = 0; rank < shape.num_ranks; ++rank) {
      const v1::Register& worker = *workers[stage * shape.num_ranks + rank];
      of_stage = std::min(of_stage, best[KindOf(worker)]);
    }
    speeds[stage] = static_cast<double>(of_stage);
  }
  const double fastest = *std::max_element(speeds.begin(), speeds.end());
  for (double& speed : speeds) speed = speed > kNoise * fastest ? 1.0 : speed / fastest;
  return speeds;
}

bool WeightsFit(const ParallelShape& shape, const ModelBytes& bytes,
                absl::Span<const v1::Placement> placements,
                absl::Span<const v1::Register* const> workers) {
  for (size_t i = 0; i < placements.size(); ++i) {
    const uint32_t begin = placements[i].first_layer();
    const uint32_t end = begin + placements[i].num_layers();
    uint64_t weights = end == bytes.layers.size() ? bytes.head : 0;
    for (uint32_t layer = begin; layer < end; ++layer) weights += bytes.layers[layer];
    const uint64_t memory = workers[i]->memory_bytes();
    if (memory > 0 && 2 * weights / shape.num_ranks > memory) return false;
  }
  return true;
}

}  // namespace kvec::coordinator::cluster
