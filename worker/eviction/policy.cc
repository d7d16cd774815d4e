#include "worker/eviction/policy.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/eviction/policies.h"

namespace kvec::worker::eviction {
namespace {

struct RegistryEntry {
  absl::string_view name;
  std::unique_ptr<Policy> (*make)(PolicyParameters parameters);
};

constexpr RegistryEntry kRegistry[] = {
    {"streaming", MakeStreaming}, {"snapkv", MakeSnapKv},        {"pyramidkv", MakeSnapKv},
    {"adasnapkv", MakeAdaSnapKv}, {"kvec-paper", MakeKvecPaper}, {"kvec", MakeKvec},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Policy>> MakePolicy(absl::string_view name,
                                                   PolicyParameters parameters) {
  for (const RegistryEntry& entry : kRegistry) {
    if (entry.name == name) return entry.make(std::move(parameters));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "cache.policy: unknown \"", name, "\"; known: full, ", absl::StrJoin(PolicyNames(), ", ")));
}

std::vector<absl::string_view> PolicyNames() {
  std::vector<absl::string_view> names;
  for (const RegistryEntry& entry : kRegistry) names.push_back(entry.name);
  return names;
}

void AddSelection(const LayerScores& scores, const Selection& selection, Coverage& coverage) {
  std::vector<uint8_t> selected(scores.num_candidates, 0);
  for (const std::vector<int32_t>& head : selection) {
    for (int32_t candidate : head) selected[candidate] = 1;
  }
  for (int candidate = 0; candidate < scores.num_candidates; ++candidate) {
    coverage.layers_selecting[scores.Position(candidate)] += selected[candidate];
  }
  ++coverage.num_layers;
}

}  // namespace kvec::worker::eviction
