// What the machine can do at most, so that other measurements can be put as a share of it:
//     ReadBytes    bytes per second that all threads read together, of so many megabytes in all:
//                  as many as a model's weights, and far more than the caches hold
//     DotBytes     operations per second on bytes (AVX-512 VNNI), two per multiply-add
//     DotPairs     the same on 16-bit numbers, each product added to a sum (AVX2)
//     MultiplyAdd  float32 flops per second, two per multiply-add
// Instruction sets that the machine lacks are left out. With --benchmark_repetitions=5 take the maximum:
// what else runs only makes it smaller.
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
__attribute__((target("avx2"))) inline void Hide(__m256i& value) {
  asm volatile("" : "+x"(value));
}
__attribute__((target("avx2"))) inline void Hide(__m256& value) {
  asm volatile("" : "+x"(value));
}

constexpr size_t kWordsPerVector = sizeof(__m256i) / sizeof(uint64_t);

__attribute__((target("avx2"))) __m256i ReadAll(const std::vector<uint64_t>& words) {
  __m256i sums[8] = {};
  for (size_t word = 0; word + 8 * kWordsPerVector <= words.size(); word += 8 * kWordsPerVector) {
    for (size_t i = 0; i < 8; ++i) {
      const auto* from = reinterpret_cast<const __m256i*>(&words[word + i * kWordsPerVector]);
      sums[i] = _mm256_or_si256(sums[i], _mm256_loadu_si256(from));
    }
  }
  for (size_t i = 1; i < 8; ++i) sums[0] = _mm256_or_si256(sums[0], sums[i]);
  return sums[0];
}

// Megabytes in all, shared among the threads.
__attribute__((target("avx2"))) void ReadBytes(benchmark::State& state) {
  const int64_t bytes = state.range(0) * 1'000'000 / state.threads();
  const std::vector<uint64_t> words(static_cast<size_t>(bytes) / sizeof(uint64_t), 1);
  for (auto _ : state) {
    __m256i sum = ReadAll(words);
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

__attribute__((target("avx2"))) void DotPairs(benchmark::State& state) {
  constexpr int kNumSums = 8;  // all of them and two products in 16 registers
  __m256i sums[kNumSums] = {};
  const __m256i a = _mm256_set1_epi16(3);
  const __m256i b = _mm256_set1_epi16(5);
  for (auto _ : state) {
    for (int step = 0; step < kSteps * kNumAccumulators / kNumSums; ++step) {
#pragma GCC unroll 8
      for (int i = 0; i < kNumSums; ++i) {
        __m256i product;
        asm volatile("vpmaddwd %2, %3, %0\n\tvpaddd %0, %1, %1"
                     : "=&x"(product), "+x"(sums[i])
                     : "x"(a), "x"(b));
      }
    }
  }
  SetRate(state, "ops", 2 * 16);
}

__attribute__((target("avx512f"))) void MultiplyAddOf512Bits(benchmark::State& state) {
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

__attribute__((target("avx2,fma"))) void MultiplyAddOf256Bits(benchmark::State& state) {
  constexpr int kNumSums = 8;
  __m256 sums[kNumSums] = {};
  const __m256 a = _mm256_set1_ps(0.5F);
  const __m256 b = _mm256_set1_ps(0.25F);
  for (auto _ : state) {
    for (int step = 0; step < kSteps * kNumAccumulators / kNumSums; ++step) {
#pragma GCC unroll 8
      for (int i = 0; i < kNumSums; ++i) {
        asm volatile("vfmadd231ps %1, %2, %0" : "+x"(sums[i]) : "x"(a), "x"(b));
      }
    }
  }
  SetRate(state, "flops", 2 * 8);
}

void Register(const char* name, void (*run)(benchmark::State&)) {
  benchmark::RegisterBenchmark(name, run)->ThreadRange(1, 2)->UseRealTime();
}

void RegisterWhatTheMachineHas() {
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
  if (has_avx2) {
    benchmark::RegisterBenchmark("ReadBytes", ReadBytes)
        ->Arg(96)
        ->Arg(1024)
        ->ThreadRange(1, 2)
        ->UseRealTime();
    Register("DotPairs", DotPairs);
  }
  if (has_avx512) Register("DotBytes", DotBytes);
  if (has_avx512) {
    Register("MultiplyAdd", MultiplyAddOf512Bits);
  } else if (has_avx2) {
    Register("MultiplyAdd", MultiplyAddOf256Bits);
  }
}

}  // namespace
}  // namespace kvec

int main(int argc, char** argv) {
  kvec::RegisterWhatTheMachineHas();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
