// Attention of SmolLM2-135M's layers and of other shapes, on 1 and 2 threads, over f16 and int8.
// Counts:
//     prefill  4 · head_dim flops per (query, key) pair that is not masked
//     decode   bytes of the keys and values read, beside a plain read of as many (ReadBytes)
// Take the minimum of several repetitions where the machine is shared:
//     attention_benchmark --benchmark_repetitions=20 --benchmark_report_aggregates_only
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/thread_pool.h"

namespace kvec::kernels::cpu {
namespace {

// A cache of sequences of `num_entries`, and rows that attend to it.
struct AttentionCase {
  AttentionCase(const HeadShape& shape, int num_sequences, int num_entries, int num_rows,
                bool is_prompt, KvType type)
      : shape(shape),
        values(static_cast<size_t>(num_sequences * num_rows) *
               static_cast<size_t>(shape.qkv_cols())),
        results(values.size()) {
    const int pages_per_head = (num_entries + kPageTokens - 1) / kPageTokens;
    pages.resize(static_cast<size_t>(num_sequences * shape.num_kv_heads * pages_per_head));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(1));
    arena = *CreateCpuKvArena({.head_dim = shape.head_dim,
                               .type = type,
                               .num_pages = static_cast<int64_t>(pages.size())});
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (float& value : values) value = normal(random);
    FillArena(random);
    heads.resize(static_cast<size_t>(num_sequences * shape.num_kv_heads));
    for (size_t i = 0; i < heads.size(); ++i) {
      heads[i] = {pages.data() + i * static_cast<size_t>(pages_per_head), num_entries};
    }
    for (int i = 0; i < num_sequences; ++i) {
      sequences.push_back(
          {i * num_rows, num_rows, is_prompt,
           absl::MakeConstSpan(heads).subspan(static_cast<size_t>(i * shape.num_kv_heads),
                                              static_cast<size_t>(shape.num_kv_heads))});
    }
    qkv = {values.data(), num_sequences * num_rows, shape.qkv_cols(), shape.qkv_cols()};
    out = {results.data(), num_sequences * num_rows, shape.num_heads * shape.head_dim,
           shape.num_heads * shape.head_dim};
  }

  // Numbers around 1.5 in f16, any in int8 with scales of 0.01.
  void FillArena(std::mt19937& random) {
    const KvArenaSpec& spec = arena->spec();
    const bool is_int8 = spec.type == KvType::kInt8;
    std::uniform_int_distribution<uint32_t> bits(0, 0x180);
    for (size_t page = 0; page < pages.size(); ++page) {
      auto* numbers = reinterpret_cast<uint16_t*>(arena->keys(static_cast<int32_t>(page)));
      for (size_t i = 0; i < spec.numbers_bytes(); ++i) {
        numbers[i] = static_cast<uint16_t>(is_int8 ? 16277 * i : 0x3E00 + bits(random));
      }
      if (!is_int8) continue;
      std::fill_n(arena->key_scales(static_cast<int32_t>(page)), 2 * kPageTokens, 0x211F);
    }
  }

  HeadShape shape;
  std::vector<float> values;
  std::vector<float> results;
  std::vector<int32_t> pages;
  std::vector<HeadPages> heads;
  std::vector<AttentionSequence> sequences;
  std::unique_ptr<CpuKvArena> arena;
  Tensor qkv;
  Tensor out;
};

HeadShape Shape(int num_heads, int num_kv_heads, int head_dim) {
  return {.num_heads = num_heads,
          .num_kv_heads = num_kv_heads,
          .head_dim = head_dim,
          .group_size = num_heads / num_kv_heads};
}

void Run(benchmark::State& state, const AttentionCase& attention_case, int num_threads) {
  ThreadPool pool(num_threads);
  const AttentionBatch batch{attention_case.sequences, 0, 0.125f};
  for (auto _ : state) {
    const absl::Status status = Attention(pool, attention_case.qkv, attention_case.shape, batch,
                                          *attention_case.arena, attention_case.out);
    if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
  }
}

// Arguments: query heads, KV heads, head_dim, entries, rows of the chunk, threads.
template <KvType type>
void Prefill(benchmark::State& state) {
  const HeadShape shape = Shape(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)),
                                static_cast<int>(state.range(2)));
  const int num_entries = static_cast<int>(state.range(3));
  const int num_rows = static_cast<int>(state.range(4));
  Run(state, AttentionCase(shape, 1, num_entries, num_rows, true, type),
      static_cast<int>(state.range(5)));
  const double pairs = shape.num_heads * (1.0 * num_rows * (num_entries - num_rows) +
                                          num_rows * (num_rows + 1.0) / 2);
  state.counters["flops"] = benchmark::Counter(4.0 * shape.head_dim * pairs,
                                               benchmark::Counter::kIsIterationInvariantRate);
}
void PrefillArguments(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"heads", "kv_heads", "head_dim", "entries", "rows", "threads"})
    ->Args({3, 1, 64, 4096, 4096, 1})
    ->Args({9, 3, 64, 4096, 4096, 2})
    ->Args({9, 3, 64, 4096, 512, 2})
    ->Args({9, 3, 64, 512, 512, 2})
    ->Args({32, 8, 128, 4096, 512, 2})
    ->Args({8, 8, 80, 4096, 512, 2})
    ->Args({4, 1, 256, 4096, 512, 2})
    ->MeasureProcessCPUTime()
    ->UseRealTime();
}
BENCHMARK(Prefill<KvType::kF16>)->Apply(PrefillArguments);
BENCHMARK(Prefill<KvType::kInt8>)->Apply(PrefillArguments);

// Arguments: query heads, KV heads, head_dim, sequences, entries, threads.
template <KvType type>
void Decode(benchmark::State& state) {
  const HeadShape shape = Shape(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)),
                                static_cast<int>(state.range(2)));
  const AttentionCase attention_case(shape, static_cast<int>(state.range(3)),
                                     static_cast<int>(state.range(4)), 1, false, type);
  Run(state, attention_case, static_cast<int>(state.range(5)));
  const KvArenaSpec& spec = attention_case.arena->spec();
  state.SetBytesProcessed(state.iterations() * spec.num_pages *
                          static_cast<int64_t>(spec.page_bytes()));
}
void DecodeArguments(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"heads", "kv_heads", "head_dim", "sequences", "entries", "threads"})
    ->Args({9, 3, 64, 1, 16, 2})
    ->Args({9, 3, 64, 1, 256, 2})
    ->Args({9, 3, 64, 1, 8000, 1})
    ->Args({9, 3, 64, 1, 8000, 2})
    ->Args({9, 3, 64, 8, 2048, 2})
    ->Args({9, 3, 64, 32, 8000, 2})
    ->Args({32, 8, 128, 4, 8000, 2})
    ->Args({32, 2, 128, 4, 8000, 2})
    ->MeasureProcessCPUTime()
    ->UseRealTime();
}
BENCHMARK(Decode<KvType::kF16>)->Apply(DecodeArguments);
BENCHMARK(Decode<KvType::kInt8>)->Apply(DecodeArguments);

// Reads as many bytes as Decode, in order. Arguments: MiB, threads.
void ReadBytes(benchmark::State& state) {
  const size_t size = static_cast<size_t>(state.range(0)) << 17;
  const std::vector<uint64_t> data(size, 1);
  ThreadPool pool(static_cast<int>(state.range(1)));
  constexpr size_t kPiece = 4096;  // 32 KiB, what a split reads of keys
  for (auto _ : state) {
    pool.ParallelFor(static_cast<int>(size / kPiece), [&](int task) {
      const uint64_t* begin = data.data() + static_cast<size_t>(task) * kPiece;
      uint64_t sums[8] = {};
      for (size_t i = 0; i < kPiece; i += 8) {
        for (size_t lane = 0; lane < 8; ++lane) sums[lane] += begin[i + lane];
      }
      for (uint64_t sum : sums) benchmark::DoNotOptimize(sum);
    });
  }
  state.SetBytesProcessed(state.iterations() * state.range(0) << 20);
}
BENCHMARK(ReadBytes)
    ->ArgNames({"MiB", "threads"})
    ->Args({6, 1})
    ->Args({6, 2})
    ->Args({188, 2})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace kvec::kernels::cpu
