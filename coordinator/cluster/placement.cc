#include "coordinator/cluster/placement.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace kvec::coordinator::cluster {
namespace {

constexpr int kMaxRanks = 1024;
constexpr int kMaxStages = 1024;
constexpr int kMaxReplicas = 64;

// Keys and values are taken as 16 bits.
constexpr uint64_t kKvNumberBytes = 2;

// [num_stages] How many layers each stage has. best[s][n]: the least sum of costs of the first n
// layers on s stages. A cost is bytes²/speed: could layers be cut, its least sum would be where all
// stages take equally long.
std::vector<int> DivideLayers(int num_stages, const ModelBytes& bytes,
                              absl::Span<const double> stage_speeds) {
  const int num_layers = static_cast<int>(bytes.layers.size());
  std::vector<double> until(num_layers + 1, 0);  // bytes that the first n layers read
  for (int n = 0; n < num_layers; ++n) {
    until[n + 1] = until[n] + static_cast<double>(bytes.layers[n] + bytes.cache[n]);
  }
  const auto cost = [&](int stage, int begin, int end) {
    const double read =
        until[end] - until[begin] + (end == num_layers ? static_cast<double>(bytes.head) : 0);
    return read * read / (stage_speeds.empty() ? 1.0 : stage_speeds[stage]);
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<std::vector<double>> best(num_stages + 1,
                                        std::vector<double>(num_layers + 1, kInfinity));
  std::vector<std::vector<int>> last_begin(num_stages + 1, std::vector<int>(num_layers + 1, 0));
  best[0][0] = 0;
  for (int stage = 1; stage <= num_stages; ++stage) {
    for (int end = stage; end <= num_layers; ++end) {
      for (int begin = stage - 1; begin < end; ++begin) {
        const double total = best[stage - 1][begin] + cost(stage - 1, begin, end);
        // Of equals the later begin: the first stages have more.
        if (total > best[stage][end]) continue;
        best[stage][end] = total;
        last_begin[stage][end] = begin;
      }
    }
  }
  std::vector<int> counts(num_stages);
  int end = num_layers;
  for (int stage = num_stages; stage > 0; --stage) {
    const int begin = last_begin[stage][end];
    counts[stage - 1] = end - begin;
    end = begin;
  }
  return counts;
}

}  // namespace

absl::StatusOr<ParallelShape> ParseParallelShape(absl::string_view text) {
  ParallelShape shape;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(part, '=');
    int* field = nullptr;
    int max = 0;
    if (pair.first == "tp") {
      field = &shape.num_ranks;
      max = kMaxRanks;
    } else if (pair.first == "pp") {
      field = &shape.num_stages;
      max = kMaxStages;
    } else if (pair.first == "dp") {
      field = &shape.num_replicas;
      max = kMaxReplicas;
    } else {
      return absl::InvalidArgumentError(absl::StrCat("parallel shape \"", text, "\": \"", part,
                                                     "\" is none of dp=N, tp=N and pp=N"));
    }
    if (!absl::SimpleAtoi(pair.second, field) || *field < 1 || *field > max) {
      return absl::InvalidArgumentError(absl::StrCat("parallel shape \"", text, "\": ", pair.first,
                                                     " is a number from 1 to ", max, ", not \"",
                                                     pair.second, "\""));
    }
  }
  return shape;
}

std::string ParallelShapeText(const ParallelShape& shape) {
  return absl::StrCat("dp=", shape.num_replicas, ",tp=", shape.num_ranks, ",pp=", shape.num_stages);
}

absl::Status CheckParallelShape(const ParallelShape& shape, const ModelConfig& config) {
  if (shape.num_stages > config.num_layers) {
    return absl::InvalidArgumentError(absl::StrCat("pp=", shape.num_stages, ": the model has only ",
                                                   config.num_layers, " layers"));
  }
  if (shape.num_ranks > config.num_heads) {
    return absl::InvalidArgumentError(absl::StrCat("tp=", shape.num_ranks, ": the model has only ",
                                                   config.num_heads, " query heads"));
  }
  return absl::OkStatus();
}

ModelBytes MeasureModelBytes(const ModelConfig& config, absl::Span<const TensorBytes> tensors) {
  ModelBytes bytes;
  bytes.layers.assign(config.num_layers, 0);
  bool has_head = false;
  for (const TensorBytes& tensor : tensors) {
    absl::string_view rest = tensor.name;
    if (tensor.name == "token_embd.weight") {
      bytes.embedding += tensor.bytes;
    } else if (absl::ConsumePrefix(&rest, "blk.")) {
      size_t layer = 0;
      const absl::string_view number = rest.substr(0, rest.find('.'));
      if (absl::SimpleAtoi(number, &layer) && layer < bytes.layers.size()) {
        bytes.layers[layer] += tensor.bytes;
      }
    } else {
      has_head = has_head || tensor.name == "output.weight";
      bytes.head += tensor.bytes;  // output.weight, output_norm.weight
    }
  }
  if (!has_head) bytes.head += bytes.embedding;
  for (int window : config.sliding_windows) {
    const uint64_t depth =
        window > 0 ? std::min(kBalancedDepth, static_cast<uint64_t>(window)) : kBalancedDepth;
    bytes.cache.push_back(kBalancedSequences * depth * 2 * config.num_kv_heads * config.head_dim *
                          kKvNumberBytes);
  }
  return bytes;
}

ModelBytes MeasureModelBytes(const ModelFiles& files) {
  std::vector<TensorBytes> tensors;
  for (const FileTensor& tensor : files.tensors()) {
    tensors.push_back({tensor.name, tensor.data.size()});
  }
  return MeasureModelBytes(files.config(), tensors);
}

std::vector<v1::Placement> PlaceWorkers(const ParallelShape& shape, const ModelBytes& bytes,
                                        absl::Span<const double> stage_speeds) {
  std::vector<v1::Placement> placements;
  placements.reserve(shape.num_workers());
  int first_layer = 0;
  int stage = 0;
  for (const int stage_layers : DivideLayers(shape.num_stages, bytes, stage_speeds)) {
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
    ++stage;
  }
  return placements;
}

}  // namespace kvec::coordinator::cluster
