#include "coordinator/cluster/placement.h"

#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace kvec::coordinator::cluster {
namespace {

constexpr int kMaxRanks = 1024;
constexpr int kMaxStages = 1024;

}  // namespace

absl::StatusOr<ParallelShape> ParseParallelShape(absl::string_view text) {
  ParallelShape shape;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(part, '=');
    int* field = pair.first == "tp" ? &shape.num_ranks : &shape.num_stages;
    if (pair.first != "tp" && pair.first != "pp") {
      return absl::InvalidArgumentError(
          absl::StrCat("parallel shape \"", text, "\": \"", part, "\" is neither tp=N nor pp=N"));
    }
    const int max = pair.first == "tp" ? kMaxRanks : kMaxStages;
    if (!absl::SimpleAtoi(pair.second, field) || *field < 1 || *field > max) {
      return absl::InvalidArgumentError(absl::StrCat("parallel shape \"", text, "\": ", pair.first,
                                                     " is a number from 1 to ", max, ", not \"",
                                                     pair.second, "\""));
    }
  }
  return shape;
}

absl::Status CheckParallelShape(const ParallelShape& shape, const ModelConfig& config) {
  if (shape.num_stages > config.num_layers) {
    return absl::InvalidArgumentError(absl::StrCat("pp=", shape.num_stages, ": the model has only ",
                                                   config.num_layers, " layers"));
  }
  if (config.num_heads % shape.num_ranks != 0) {
    return absl::InvalidArgumentError(absl::StrCat("tp=", shape.num_ranks, ": the model's ",
                                                   config.num_heads,
                                                   " query heads do not divide by it"));
  }
  return absl::OkStatus();
}

std::vector<v1::Placement> PlaceWorkers(const ParallelShape& shape, int num_layers) {
  std::vector<v1::Placement> placements;
  placements.reserve(shape.num_workers());
  int first_layer = 0;
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    const int stage_layers =
        num_layers / shape.num_stages + (stage < num_layers % shape.num_stages ? 1 : 0);
    for (int rank = 0; rank < shape.num_ranks; ++rank) {
      v1::Placement& placement = placements.emplace_back();
      placement.set_stage(stage);
      placement.set_num_stages(shape.num_stages);
      placement.set_rank(rank);
      placement.set_num_ranks(shape.num_ranks);
      placement.set_first_layer(first_layer);
      placement.set_num_layers(stage_layers);
    }
    first_layer += stage_layers;
  }
  return placements;
}

}  // namespace kvec::coordinator::cluster
