// What the machine can do at most, so that other measurements can be put as a share of it:
//     ReadBytes    bytes per second that all threads read together, of so many megabytes in all:
//                  as many as a model's weights, and far more than the caches hold
//     DotBytes     operations per second on bytes (AVX-512 VNNI), two per multiply-add
//     MultiplyAdd  float32 flops per second (AVX-512), two per multiply-add
// With --benchmark_repetitions=5 take the maximum: what else runs only makes it smaller.
#include <immintrin.h>

#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"

namespace kvec {
namespace {

// Instructions in flight: two per cycle, each with a latency of four.
constexpr int kNumAccumulators = 16;
constexpr int kSteps = 4096;

// Keeps the compiler from computing with a value beforehand.
__attribute__((target("avx512f"))) inline void Hide(__m512i& value) {
  asm volatile("" : "+v"(value));
}
__attribute__((target("avx512f"))) inline void Hide(__m512& value) {
  asm volatile("" : "+v"(value));
}

bool HasAvx512(benchmark::State& state) {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni")) return true;
  state.SkipWithError("no AVX-512 VNNI on this machine");
  return false;
}

constexpr size_t kWordsPerVector = sizeof(__m512i) / sizeof(uint64_t);

__attribute__((target("avx512f"))) __m512i ReadAll(const std::vector<uint64_t>& words) {
  __m512i sums[8] = {};
  for (size_t word = 0; word + 8 * kWordsPerVector <= words.size(); word += 8 * kWordsPerVector) {
    for (size_t i = 0; i < 8; ++i) {
      sums[i] = _mm512_or_si512(sums[i], _mm512_loadu_si512(&words[word + i * kWordsPerVector]));
    }
  }
  for (size_t i = 1; i < 8; ++i) sums[0] = _mm512_or_si512(sums[0], sums[i]);
  return sums[0];
}

// Megabytes in all, shared among the threads.
__attribute__((target("avx512f"))) void ReadBytes(benchmark::State& state) {
  if (!HasAvx512(state)) return;
  const int64_t bytes = state.range(0) * 1'000'000 / state.threads();
  const std::vector<uint64_t> words(static_cast<size_t>(bytes) / sizeof(uint64_t), 1);
  for (auto _ : state) {
    __m512i sum = ReadAll(words);
    Hide(sum);
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

void SetRate(benchmark::State& state, const char* name, int per_instruction) {
  state.counters[name] = benchmark::Counter(
      static_cast<double>(state.iterations()) * kSteps * kNumAccumulators * per_instruction,
      benchmark::Counter::kIsRate);
}

__attribute__((target("avx512f,avx512vnni"))) void DotBytes(benchmark::State& state) {
  if (!HasAvx512(state)) return;
  __m512i sums[kNumAccumulators] = {};
  __m512i a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(5);
  for (auto _ : state) {
    for (int step = 0; step < kSteps; ++step) {
      Hide(a);
      for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
    }
  }
  for (__m512i sum : sums) Hide(sum);
  SetRate(state, "ops", 2 * 64);
}

__attribute__((target("avx512f"))) void MultiplyAdd(benchmark::State& state) {
  if (!HasAvx512(state)) return;
  __m512 sums[kNumAccumulators] = {};
  __m512 a = _mm512_set1_ps(0.5F);
  const __m512 b = _mm512_set1_ps(0.25F);
  for (auto _ : state) {
    for (int step = 0; step < kSteps; ++step) {
      Hide(a);
      for (__m512& sum : sums) sum = _mm512_fmadd_ps(a, b, sum);
    }
  }
  for (__m512 sum : sums) Hide(sum);
  SetRate(state, "flops", 2 * 16);
}

BENCHMARK(ReadBytes)->Arg(96)->Arg(1024)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(DotBytes)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(MultiplyAdd)->ThreadRange(1, 2)->UseRealTime();

}  // namespace
}  // namespace kvec

BENCHMARK_MAIN();
