// Kernels on a GPU beside what the card can do: copies and products as ceilings, then the
// operations of an 8B model's layer (32 query and 8 KV heads of 128) as the engine calls them,
// tables uploaded included. Counts bytes that must be moved, or flops. Run by run.sh.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "benchmark/benchmark.h"
#include "kernels/cuda/cuda_device.h"

namespace kvec::kernels::cuda {
namespace {

constexpr HeadShape kShape = {.num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .group_size = 4};
constexpr int kHidden = 4096;
constexpr int kIntermediate = 14336;

CudaDevice& Gpu() {
  static const std::unique_ptr<CudaDevice> device = [] {
    auto made = CudaDevice::Create({});
    if (!made.ok()) {
      fprintf(stderr, "gpu_benchmark: %s\n", std::string(made.status().message()).c_str());
      std::exit(1);
    }
    return *std::move(made);
  }();
  return *device;
}

// Memory of zeros.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : memory_(*Gpu().Allocate(bytes)) {
    (void)cudaMemsetAsync(memory_->data(), 0, bytes, Gpu().stream());
  }
  float* data() { return static_cast<float*>(memory_->data()); }
  Tensor Matrix(int rows, int cols) { return {data(), rows, cols, cols}; }
  // There is room for numbers of float32.
  ProductInput Input(int rows, int cols) {
    return {memory_->data(), Gpu().input_type(), rows, cols, cols};
  }

 private:
  std::unique_ptr<DeviceMemory> memory_;
};

// Times `operation` on the stream, a few at a time so that the host is not what is measured.
template <typename Operation>
void Measure(benchmark::State& state, const Operation& operation) {
  constexpr int kAtOnce = 8;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  (void)cudaEventCreate(&begin);
  (void)cudaEventCreate(&end);
  if (const absl::Status status = operation(); !status.ok()) {
    state.SkipWithError(std::string(status.message()).c_str());
  }
  for (auto _ : state) {
    (void)cudaEventRecord(begin, Gpu().stream());
    for (int i = 0; i < kAtOnce; ++i) {
      if (const absl::Status status = operation(); !status.ok()) {
        state.SkipWithError(std::string(status.message()).c_str());
        break;
      }
    }
    (void)cudaEventRecord(end, Gpu().stream());
    if (cudaEventSynchronize(end) != cudaSuccess) state.SkipWithError("the GPU has failed");
    float milliseconds = 0;
    (void)cudaEventElapsedTime(&milliseconds, begin, end);
    state.SetIterationTime(double{milliseconds} / 1000 / kAtOnce);
  }
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
}

void CountBytes(benchmark::State& state, double bytes) {
  state.counters["bytes_per_second"] =
      benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
}
void CountFlops(benchmark::State& state, double flops) {
  state.counters["flops"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

// Reads as much as it writes.
void CopyCeiling(benchmark::State& state) {
  constexpr size_t kBytes = size_t{1} << 30;
  Buffer from(kBytes);
  Buffer to(kBytes);
  Measure(state, [&] {
    return cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice,
                           Gpu().stream()) == cudaSuccess
               ? absl::OkStatus()
               : absl::InternalError("copy");
  });
  CountBytes(state, 2.0 * kBytes);
}
BENCHMARK(CopyCeiling)->UseManualTime();

// Of zeros, which draw less power than numbers: an upper bound.
std::unique_ptr<Weight> MakeWeight(int out, int in) {
  const std::vector<uint8_t> data(size_t{2} * static_cast<size_t>(out) * static_cast<size_t>(in));
  return *Gpu().PrepareWeight({{TensorType::kBF16, out, in, data}});
}

// Arguments: rows, out_features, in_features. Of many rows: the ceiling of products; of one row: of
// reading weights.
void Product(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0));
  const int out = static_cast<int>(state.range(1));
  const int in = static_cast<int>(state.range(2));
  const std::unique_ptr<Weight> weight = MakeWeight(out, in);
  Buffer x(sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(in));
  Buffer y(sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(out));
  Measure(state, [&] {
    return Gpu().MatMul(*weight, x.Input(rows, in), nullptr, MatMulMode::kOverwrite,
                        y.Matrix(rows, out));
  });
  CountFlops(state, 2.0 * rows * out * in);
  CountBytes(state, 2.0 * out * in + 2.0 * rows * in + 4.0 * rows * out);
}
BENCHMARK(Product)
    ->ArgNames({"rows", "out", "in"})
    ->Args({8192, 8192, 8192})
    ->Args({512, 2 * kIntermediate, kHidden})
    ->Args({512, kHidden, kIntermediate})
    ->Args({1, 2 * kIntermediate, kHidden})
    ->Args({1, kHidden, kIntermediate})
    ->Args({8, 2 * kIntermediate, kHidden})
    ->UseManualTime();

// A layer's cache of sequences of `num_entries`, its pages in random order.
struct Cache {
  Cache(int num_sequences, int num_entries) : entries(num_entries) {
    const int pages_per_head = (num_entries + kPageTokens - 1) / kPageTokens;
    const auto num_heads = static_cast<size_t>(num_sequences * kShape.num_kv_heads);
    pages.resize(num_heads * static_cast<size_t>(pages_per_head));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(1));
    arena = *Gpu().AllocateKvArena({.head_dim = kShape.head_dim,
                                    .type = KvType::kF16,
                                    .num_pages = static_cast<int64_t>(pages.size())});
    for (size_t head = 0; head < num_heads; ++head) {
      heads.push_back({pages.data() + head * static_cast<size_t>(pages_per_head), num_entries});
    }
  }
  absl::Span<const HeadPages> Heads(int sequence) const {
    return absl::MakeConstSpan(heads).subspan(static_cast<size_t>(sequence * kShape.num_kv_heads),
                                              kShape.num_kv_heads);
  }
  // Keys, or values.
  double bytes() const {
    return 2.0 * static_cast<double>(heads.size()) * entries * kShape.head_dim;
  }

  const int entries;
  std::vector<int32_t> pages;
  std::vector<HeadPages> heads;
  std::unique_ptr<KvArena> arena;
};

void RunAttention(benchmark::State& state, const Cache& cache, int num_sequences, int num_rows,
                  bool is_prompt) {
  std::vector<AttentionSequence> sequences;
  for (int i = 0; i < num_sequences; ++i) {
    sequences.push_back({i * num_rows, num_rows, is_prompt, cache.Heads(i)});
  }
  const int rows = num_sequences * num_rows;
  const int out_cols = kShape.num_heads * kShape.head_dim;
  Buffer qkv(sizeof(float) * static_cast<size_t>(rows * kShape.qkv_cols()));
  Buffer out(sizeof(float) * static_cast<size_t>(rows * out_cols));
  Measure(state, [&] {
    return Gpu().Attention(qkv.Matrix(rows, kShape.qkv_cols()), kShape, {sequences, 0, 0.088f},
                           *cache.arena, out.Input(rows, out_cols));
  });
}

// Arguments: sequences, entries of each.
void DecodeAttention(benchmark::State& state) {
  const int num_sequences = static_cast<int>(state.range(0));
  const Cache cache(num_sequences, static_cast<int>(state.range(1)));
  RunAttention(state, cache, num_sequences, 1, /*is_prompt=*/false);
  CountBytes(state, 2 * cache.bytes());
}
BENCHMARK(DecodeAttention)
    ->ArgNames({"sequences", "entries"})
    ->Args({1, 8192})
    ->Args({8, 8192})
    ->Args({64, 1024})
    ->Args({1, 131072})
    ->UseManualTime();

// Arguments: rows of the chunk, entries with them.
void PrefillAttention(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0));
  const int entries = static_cast<int>(state.range(1));
  const Cache cache(1, entries);
  RunAttention(state, cache, 1, rows, /*is_prompt=*/true);
  const double pairs = 1.0 * rows * (entries - rows) + rows * (rows + 1.0) / 2;
  CountFlops(state, 4.0 * kShape.head_dim * kShape.num_heads * pairs);
}
BENCHMARK(PrefillAttention)
    ->ArgNames({"rows", "entries"})
    ->Args({512, 512})
    ->Args({512, 8192})
    ->Args({512, 32768})
    ->UseManualTime();

// The scores of K-VEC's windows, with their way to the host. Argument: entries.
void WindowScores(benchmark::State& state) {
  constexpr int kQueries = 32;
  constexpr int kFocus = 8;
  const int entries = static_cast<int>(state.range(0));
  const Cache cache(1, entries);
  Buffer queries(sizeof(float) * kQueries *
                 static_cast<size_t>(kShape.num_heads * kShape.head_dim));
  const std::vector<int32_t> visible(static_cast<size_t>(kShape.num_kv_heads) * kQueries, entries);
  const std::vector<int32_t> candidates(static_cast<size_t>(kShape.num_kv_heads), entries);
  const std::vector<int> windows = {16, 32};
  const auto stride = static_cast<size_t>(entries);
  std::vector<float> means(windows.size() * static_cast<size_t>(kShape.num_heads) * stride);
  std::vector<float> maxima(static_cast<size_t>(kShape.num_kv_heads) * kFocus * stride);
  Measure(state, [&] {
    return Gpu().WindowScores(
        kShape,
        {.queries = queries.Matrix(kQueries, kShape.num_heads * kShape.head_dim),
         .first_query = 0,
         .num_queries = kQueries,
         .heads = cache.Heads(0),
         .num_visible = visible,
         .num_candidates = candidates,
         .stride = entries,
         .scale = 0.088f,
         .windows = windows,
         .means = means.data(),
         .focus_window = kFocus,
         .maxima = maxima.data()},
        *cache.arena);
  });
  CountBytes(state, cache.bytes());
}
BENCHMARK(WindowScores)->ArgName("entries")->Arg(8192)->Arg(32768)->UseManualTime();

// Every 16th entry of every head is kept. Argument: entries.
void GatherEntries(benchmark::State& state) {
  constexpr int kKeptOf = 16;
  const Cache cache(1, static_cast<int>(state.range(0)));
  std::vector<int32_t> kept;
  for (int entry = 0; entry < cache.entries; entry += kKeptOf) kept.push_back(entry);
  std::vector<GatherRequest> requests;
  for (const HeadPages& head : cache.Heads(0)) requests.push_back({head, kept, head.pages});
  Measure(state, [&] { return Gpu().GatherEntries(requests, *cache.arena); });
  CountBytes(state, 2 * 2 * cache.bytes() / kKeptOf);
}
BENCHMARK(GatherEntries)->ArgName("entries")->Arg(32768)->UseManualTime();

// Argument: rows.
void RmsNorm(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0));
  Buffer x(sizeof(float) * static_cast<size_t>(rows) * kHidden);
  Buffer weight(sizeof(float) * kHidden);
  Buffer out(sizeof(float) * static_cast<size_t>(rows) * kHidden);
  Measure(state, [&] {
    return Gpu().RmsNorm(x.Matrix(rows, kHidden), weight.data(), 1e-5f, out.Input(rows, kHidden));
  });
  CountBytes(state, (4.0 + 2.0) * rows * kHidden);
}
BENCHMARK(RmsNorm)->ArgName("rows")->Arg(1)->Arg(512)->UseManualTime();

}  // namespace
}  // namespace kvec::kernels::cuda
