#include "coordinator/cluster/shape_choice.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvec::coordinator::cluster {
namespace {

// What packing and activations add to the bytes of the file.
constexpr double kWeightOverhead = 1.1;

struct Host {
  std::vector<const AvailableWorker*> workers;  // the largest first
};

// In the order of their first workers.
std::vector<Host> GroupByHost(const std::vector<AvailableWorker>& workers) {
  std::vector<Host> hosts;
  for (const AvailableWorker& worker : workers) {
    const auto same = std::find_if(hosts.begin(), hosts.end(), [&](const Host& host) {
      return host.workers.front()->host == worker.host;
    });
    (same == hosts.end() ? hosts.emplace_back() : *same).workers.push_back(&worker);
  }
  for (Host& host : hosts) {
    std::stable_sort(host.workers.begin(), host.workers.end(), [](const auto* a, const auto* b) {
      return a->memory_bytes > b->memory_bytes;
    });
  }
  return hosts;
}

// Memory of the host's smallest worker if `count` of them, the largest ones, are used.
uint64_t MemoryOfEach(const Host& host, int count) {
  const AvailableWorker& smallest = *host.workers[count - 1];
  return smallest.shares_memory ? smallest.memory_bytes / count : smallest.memory_bytes;
}

// KV heads that a rank holds at most. Where ranks don't divide them, neighbours may hold the same
// one.
int KvHeadsOfRank(int num_ranks, const ModelConfig& config) {
  if (config.num_kv_heads % num_ranks == 0) return config.num_kv_heads / num_ranks;
  const int group_size = config.num_heads / config.num_kv_heads;
  const int num_heads = (config.num_heads + num_ranks - 1) / num_ranks;
  return std::min(config.num_kv_heads, (num_heads + group_size - 1) / group_size + 1);
}

// Of the worker of this shape that needs most.
uint64_t MemoryNeeded(const ParallelShape& shape, const ModelConfig& config,
                      const ModelBytes& bytes) {
  const double weight_share = kWeightOverhead *
                              ((config.num_heads + shape.num_ranks - 1) / shape.num_ranks) /
                              config.num_heads;
  const double cache_share =
      static_cast<double>(KvHeadsOfRank(shape.num_ranks, config)) / config.num_kv_heads;
  double needed = 0;
  for (const v1::Placement& placement : PlaceWorkers(shape, bytes)) {
    const uint32_t end = placement.first_layer() + placement.num_layers();
    double weights = placement.stage() == 0 ? static_cast<double>(bytes.embedding) : 0;
    if (end == bytes.layers.size()) weights += static_cast<double>(bytes.head);
    double cache = 0;
    for (uint32_t layer = placement.first_layer(); layer < end; ++layer) {
      weights += static_cast<double>(bytes.layers[layer]);
      cache += static_cast<double>(bytes.cache[layer]);
    }
    needed = std::max({needed, 2 * weight_share * weights, 2 * cache_share * cache});
  }
  return static_cast<uint64_t>(needed);
}

// Workers for at most max_replicas groups, whole stages on each host; none when they don't fit
// there.
std::vector<uint64_t> FindWorkers(const ParallelShape& shape, uint64_t needed,
                                  const std::vector<Host>& hosts, int max_replicas) {
  const size_t num_workers = shape.num_workers();
  const size_t most = num_workers * max_replicas;
  std::vector<uint64_t> ids;
  for (const Host& host : hosts) {
    int count = static_cast<int>(std::min(host.workers.size(), most - ids.size()));
    count -= count % shape.num_ranks;
    while (count > 0 && MemoryOfEach(host, count) < needed) count -= shape.num_ranks;
    for (int i = 0; i < count; ++i) ids.push_back(host.workers[i]->id);
  }
  ids.resize(ids.size() - ids.size() % num_workers);
  return ids;
}

}  // namespace

absl::StatusOr<ShapeChoice> ChooseShape(const std::vector<AvailableWorker>& workers,
                                        const ModelConfig& config, const ModelBytes& bytes,
                                        int max_replicas) {
  const std::vector<Host> hosts = GroupByHost(workers);
  const int num_workers = static_cast<int>(workers.size());
  for (int size = 1; size <= num_workers; ++size) {
    for (int num_ranks = std::min(size, config.num_heads); num_ranks > 0; --num_ranks) {
      ParallelShape shape{.num_ranks = num_ranks, .num_stages = size / num_ranks};
      if (size % num_ranks != 0 || shape.num_stages > config.num_layers) continue;
      std::vector<uint64_t> ids =
          FindWorkers(shape, MemoryNeeded(shape, config, bytes), hosts, max_replicas);
      if (ids.empty()) continue;
      shape.num_replicas = static_cast<int>(ids.size()) / size;
      return ShapeChoice{shape, std::move(ids)};
    }
  }
  uint64_t memory_bytes = 0;
  for (const AvailableWorker& worker : workers) memory_bytes += worker.memory_bytes;
  return absl::ResourceExhaustedError(
      absl::StrCat(num_workers, " workers with ", memory_bytes,
                   " bytes of memory do not hold the model: one that "
                   "held all of it would need ",
                   MemoryNeeded({}, config, bytes)));
}

}  // namespace kvec::coordinator::cluster
