#include "coordinator/client/gpu_count.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace kvec::coordinator::client {
namespace {

constexpr int kMaxGpusPerHost = 64;
constexpr int kMaxHosts = 1024;

bool ParseCount(absl::string_view text, int max, int& count) {
  return absl::SimpleAtoi(text, &count) && count >= 1 && count <= max;
}

}  // namespace

absl::StatusOr<GpuCount> ParseGpuCount(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('x', 1));
  const bool has_hosts = absl::StrContains(text, "x");
  GpuCount gpus;
  if (ParseCount(parts.first, kMaxGpusPerHost, gpus.per_host) &&
      (!has_hosts || ParseCount(parts.second, kMaxHosts, gpus.num_hosts))) {
    return gpus;
  }
  return absl::InvalidArgumentError(absl::StrCat("--gpus: \"", text,
                                                 "\" is neither N nor NxHOSTS, with N up to ",
                                                 kMaxGpusPerHost, " and HOSTS up to ", kMaxHosts));
}

cluster::ParallelShape ShapeFor(const GpuCount& gpus, int num_heads) {
  int num_ranks = gpus.per_host;
  while (gpus.per_host % num_ranks != 0 || num_heads % num_ranks != 0) --num_ranks;
  return {.num_ranks = num_ranks, .num_stages = gpus.per_host / num_ranks * gpus.num_hosts};
}

}  // namespace kvec::coordinator::client
