#include "kernels/cpu/isa.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "hwy/targets.h"

namespace kvec::kernels::cpu {

Isa DetectIsa() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni")) {
    return Isa::kAvx512;
  }
  // F16C comes with every AVX2 and FMA; Clang 14 does not know its name.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
  return Isa::kScalar;
}

absl::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

absl::StatusOr<Isa> ParseIsa(absl::string_view name) {
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (name != IsaName(isa)) continue;
    if (isa > DetectIsa()) {
      return absl::UnavailableError(absl::StrCat("isa: this processor has no ", name));
    }
    return isa;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("isa: unknown \"", name, "\"; known: scalar, avx2, avx512"));
}

void RestrictHighwayTo(Isa isa) {
  int64_t targets = HWY_SCALAR | HWY_EMU128;
  if (isa >= Isa::kAvx2) targets |= HWY_AVX2;
  if (isa >= Isa::kAvx512) targets |= HWY_AVX3 | HWY_AVX3_DL;
  hwy::DisableTargets(~targets);
  hwy::GetChosenTarget().DeInit();
}

}  // namespace kvec::kernels::cpu
