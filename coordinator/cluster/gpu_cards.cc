#include "coordinator/cluster/gpu_cards.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kvec::coordinator::cluster {
namespace {

struct Card {
  absl::string_view name;
  uint64_t memory_mib;  // what nvidia-smi shows as the total
};

constexpr Card kCards[] = {
    {"A10", 23028},   {"A100-40", 40960}, {"A100-80", 81920},
    {"B200", 183359}, {"H100-80", 81559}, {"H200", 143771},
    {"L4", 23034},    {"L40S", 46068},    {"RTX-4090", 24564},
};

}  // namespace

absl::StatusOr<uint64_t> GpuMemoryBytes(absl::string_view card) {
  for (const Card& known : kCards) {
    if (absl::EqualsIgnoreCase(known.name, card)) return known.memory_mib << 20;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("card \"", card, "\" is not known; known: ", KnownGpuCards()));
}

std::string KnownGpuCards() {
  return absl::StrJoin(kCards, ", ",
                       [](std::string* out, const Card& card) { absl::StrAppend(out, card.name); });
}

}  // namespace kvec::coordinator::cluster
