#ifndef KVEC_KERNELS_PHILOX_H_
#define KVEC_KERNELS_PHILOX_H_

#include <array>
#include <cstdint>

namespace kvec::kernels {

// Philox4x32-10, the counter-based generator of J. Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3" (SC 2011): any draw of a stream at once, without state.
inline std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                          std::array<uint32_t, 2> key) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// The draw in [0, 1), a multiple of 2^-53, for the token at `position` of a request's continuation
// `choice`.
inline double UniformDraw(uint64_t seed, uint32_t choice, uint32_t position) {
  const std::array<uint32_t, 4> words = Philox4x32(
      {position, choice, 0, 0}, {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{words[0]} << 32 | words[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_PHILOX_H_
