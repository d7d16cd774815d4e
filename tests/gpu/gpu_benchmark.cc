// Kernels on a GPU beside what the card can do: copies and products as ceilings, then the
// operations of an 8B model's layer (32 query and 8 KV heads of 128) as the engine calls them,
// tables uploaded included. Counts bytes that must be moved, or flops. Run by run.sh; on the host
// simulator, with everything smaller, by a test.

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
#include "common/status_macros.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/window_scores.h"
#include "kernels/entry_chooser.h"
#include "worker/eviction/policy.h"

namespace kvec::kernels::cuda {
namespace {

constexpr HeadShape kShape = {.num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .group_size = 4};
#ifdef KVEC_SMALL_GPU_BENCHMARK
constexpr int kSmaller = 64;
#else
constexpr int kSmaller = 1;
#endif
constexpr int kHidden = 4096 / kSmaller;
constexpr int kIntermediate = 14336 / kSmaller;
constexpr int kVocabulary = 128256 / kSmaller;
constexpr int kBudget = 1024 / kSmaller + 16;
constexpr int kLayers = kSmaller == 1 ? 32 : 2;

// A benchmark's n-th argument, a size.
int Size(const benchmark::State& state, int n) {
  return std::max(1, static_cast<int>(state.range(n)) / kSmaller);
}

std::unique_ptr<CudaDevice> MakeGpu(const CudaDevice::Options& options) {
  auto made = CudaDevice::Create(options);
  if (!made.ok()) {
    fprintf(stderr, "gpu_benchmark: %s\n", std::string(made.status().message()).c_str());
    std::exit(1);
  }
  return *std::move(made);
}

CudaDevice& Gpu() {
  static const std::unique_ptr<CudaDevice> device = MakeGpu({});
  return *device;
}

// Prefill attention over its arenas is by mma.sync, whoever runs it.
CudaDevice& GpuWithoutWgmma() {
  static const std::unique_ptr<CudaDevice> device = MakeGpu({.use_wgmma = false});
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

// Times `operation` on the GPU's stream, a few at a time so that the host is not what is measured.
template <typename Operation>
void Measure(benchmark::State& state, const Operation& operation, CudaDevice& gpu = Gpu(),
             int at_once = 8) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  (void)cudaEventCreate(&begin);
  (void)cudaEventCreate(&end);
  if (const absl::Status status = operation(); !status.ok()) {
    state.SkipWithError(std::string(status.message()).c_str());
  }
  for (auto _ : state) {
    (void)cudaEventRecord(begin, gpu.stream());
    for (int i = 0; i < at_once; ++i) {
      if (const absl::Status status = operation(); !status.ok()) {
        state.SkipWithError(std::string(status.message()).c_str());
        break;
      }
    }
    (void)cudaEventRecord(end, gpu.stream());
    if (const absl::Status status = gpu.Synchronize(); !status.ok()) {
      state.SkipWithError(std::string(status.message()).c_str());
    }
    float milliseconds = 0;
    (void)cudaEventElapsedTime(&milliseconds, begin, end);
    state.SetIterationTime(double{milliseconds} / 1000 / at_once);
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
  constexpr size_t kBytes = (size_t{1} << 30) / kSmaller;
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
std::unique_ptr<Weight> MakeWeight(CudaDevice& gpu, int out, int in) {
  const std::vector<uint8_t> data(size_t{2} * static_cast<size_t>(out) * static_cast<size_t>(in));
  return *gpu.PrepareWeight({{TensorType::kBF16, out, in, data}});
}

// Arguments: rows, out_features, in_features.
void RunProduct(benchmark::State& state, CudaDevice& gpu, int bytes_per_weight) {
  const int rows = Size(state, 0);
  const int out = Size(state, 1);
  const int in = Size(state, 2);
  const std::unique_ptr<Weight> weight = MakeWeight(gpu, out, in);
  Buffer x(sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(in));
  Buffer y(sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(out));
  const ProductInput input{x.data(), gpu.input_type(), rows, in, in};
  Measure(
      state,
      [&] {
        return gpu.MatMul(*weight, input, nullptr, MatMulMode::kOverwrite, y.Matrix(rows, out));
      },
      gpu);
  CountFlops(state, 2.0 * rows * out * in);
  CountBytes(state, 1.0 * bytes_per_weight * out * in +
                        static_cast<double>(NumberBytes(input.type)) * rows * in +
                        4.0 * rows * out);
}

// Of many rows: the ceiling of products; of one row: of reading weights.
void Product(benchmark::State& state) { RunProduct(state, Gpu(), 2); }
BENCHMARK(Product)
    ->ArgNames({"rows", "out", "in"})
    ->Args({8192, 8192, 8192})
    ->Args({512, 28672, 4096})
    ->Args({512, 4096, 14336})
    ->Args({1, 28672, 4096})
    ->Args({1, 4096, 14336})
    ->Args({8, 28672, 4096})
    ->UseManualTime();

// Inputs are rounded, and results scaled, by kernels of ours around cuBLASLt's.
void EightBitProduct(benchmark::State& state, WeightType type) {
  const auto gpu = CudaDevice::Create({.weight_type = type});
  if (!gpu.ok()) return state.SkipWithError(std::string(gpu.status().message()).c_str());
  RunProduct(state, **gpu, 1);
}
BENCHMARK_CAPTURE(EightBitProduct, int8, WeightType::kInt8)
    ->ArgNames({"rows", "out", "in"})
    ->Args({8192, 8192, 8192})
    ->Args({1, 28672, 4096})
    ->UseManualTime();
BENCHMARK_CAPTURE(EightBitProduct, fp8, WeightType::kFp8)
    ->ArgNames({"rows", "out", "in"})
    ->Args({8192, 8192, 8192})
    ->Args({1, 28672, 4096})
    ->UseManualTime();

// A layer's cache of sequences of `num_entries`, its pages in random order.
struct Cache {
  Cache(int num_sequences, int num_entries, KvType type = KvType::kF16,
        CudaDevice& allocator = Gpu())
      : entries(num_entries) {
    const int pages_per_head = (num_entries + kPageTokens - 1) / kPageTokens;
    const auto num_heads = static_cast<size_t>(num_sequences * kShape.num_kv_heads);
    pages.resize(num_heads * static_cast<size_t>(pages_per_head));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(1));
    arena = *allocator.AllocateKvArena({.head_dim = kShape.head_dim,
                                        .type = type,
                                        .num_pages = static_cast<int64_t>(pages.size())});
    for (size_t head = 0; head < num_heads; ++head) {
      heads.push_back({pages.data() + head * static_cast<size_t>(pages_per_head), num_entries});
    }
  }
  absl::Span<const HeadPages> Heads(int sequence) const {
    return absl::MakeConstSpan(heads).subspan(static_cast<size_t>(sequence * kShape.num_kv_heads),
                                              kShape.num_kv_heads);
  }
  // Keys, or values; of whole pages.
  double bytes() const {
    return static_cast<double>(pages.size() * arena->spec().page_bytes()) / 2;
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
void DecodeAttention(benchmark::State& state, KvType type) {
  const int num_sequences = Size(state, 0);
  const Cache cache(num_sequences, Size(state, 1), type);
  RunAttention(state, cache, num_sequences, 1, /*is_prompt=*/false);
  CountBytes(state, 2 * cache.bytes());
}
BENCHMARK_CAPTURE(DecodeAttention, f16, KvType::kF16)
    ->ArgNames({"sequences", "entries"})
    ->Args({1, 8192})
    ->Args({8, 8192})
    ->Args({64, 1024})
    ->Args({1, 131072})
    ->UseManualTime();
BENCHMARK_CAPTURE(DecodeAttention, int8, KvType::kInt8)
    ->ArgNames({"sequences", "entries"})
    ->Args({8, 8192})
    ->UseManualTime();

// Arguments: rows of the chunk, entries with them.
void PrefillAttention(benchmark::State& state, bool may_use_wgmma) {
  const int rows = Size(state, 0);
  const int entries = Size(state, 1);
  const Cache cache(1, entries, KvType::kF16, may_use_wgmma ? Gpu() : GpuWithoutWgmma());
  RunAttention(state, cache, 1, rows, /*is_prompt=*/true);
  const double pairs = 1.0 * rows * (entries - rows) + rows * (rows + 1.0) / 2;
  CountFlops(state, 4.0 * kShape.head_dim * kShape.num_heads * pairs);
}
BENCHMARK_CAPTURE(PrefillAttention, mma_sync, false)
    ->ArgNames({"rows", "entries"})
    ->ArgsProduct({{512}, {512, 8192, 32768}})
    ->Args({2048, 32768})
    ->UseManualTime();
// On compute capability 9.0; the same as mma_sync elsewhere.
BENCHMARK_CAPTURE(PrefillAttention, wgmma, true)
    ->ArgNames({"rows", "entries"})
    ->ArgsProduct({{512}, {512, 8192, 32768}})
    ->Args({2048, 32768})
    ->UseManualTime();

// The last queries of a prompt that fills a cache, as a policy's scores ask for them.
struct Window {
  Window(const Cache& cache, const worker::eviction::ScoreNeeds& needs)
      : num_queries(*std::max_element(needs.windows.begin(), needs.windows.end())),
        windows(needs.windows),
        queries(sizeof(float) * static_cast<size_t>(num_queries * kCols)),
        visible(static_cast<size_t>(kShape.num_kv_heads * num_queries), cache.entries),
        candidates(static_cast<size_t>(kShape.num_kv_heads), cache.entries) {
    request = {.queries = queries.Matrix(num_queries, kCols),
               .first_query = 0,
               .num_queries = num_queries,
               .heads = cache.Heads(0),
               .num_visible = visible,
               .num_candidates = candidates,
               .stride = cache.entries,
               .scale = 0.088f,
               .windows = windows,
               .means = nullptr,
               .focus_window = needs.focus_window,
               .maxima = nullptr};
  }

  static constexpr int kCols = kShape.num_heads * kShape.head_dim;
  const int num_queries;
  const std::vector<int> windows;
  Buffer queries;
  const std::vector<int32_t> visible;
  const std::vector<int32_t> candidates;
  WindowScoreRequest request;
};

std::unique_ptr<worker::eviction::Policy> MakePolicy(const char* name, int num_tokens) {
  worker::eviction::PolicyParameters parameters;
  parameters.num_tokens = num_tokens;
  for (int t = 0; t < num_tokens; ++t) parameters.sentence_ends.push_back(t % 20 == 19 ? 1 : 0);
  return *worker::eviction::MakePolicy(name, std::move(parameters));
}

// Scores of all layers, and what a policy chooses by them, with its way to the host. Argument:
// entries.
void Choose(benchmark::State& state, const char* policy_name) {
  const Cache cache(1, Size(state, 0));
  const auto policy = MakePolicy(policy_name, cache.entries);
  const worker::eviction::ScoreNeeds needs = policy->needs();
  const Window window(cache, needs);
  const RankHeadRange all_heads{0, kShape.num_heads, 0, kShape.num_kv_heads};
  const std::vector<uint16_t> layers_selecting(static_cast<size_t>(cache.entries));
  const std::vector<int> budgets(kLayers, kBudget * kShape.num_kv_heads);
  const ChoicePlan plan{.rules = *policy->device_rules(kShape.num_kv_heads),
                        .shape = kShape,
                        .ranks = absl::MakeConstSpan(&all_heads, 1),
                        .num_candidates = cache.entries,
                        .num_windows = static_cast<int>(needs.windows.size()),
                        .focus_window = needs.focus_window,
                        .layers_selecting = layers_selecting,
                        .layer_budgets = budgets};
  EntryChooser& chooser = *Gpu().chooser();
  const auto choose = [&]() -> absl::Status {
    KVEC_RETURN_IF_ERROR(chooser.Begin(plan));
    for (int layer = 0; layer < kLayers; ++layer) {
      KVEC_RETURN_IF_ERROR(chooser.ScoreLayer(window.request, *cache.arena).status());
      KVEC_RETURN_IF_ERROR(chooser.ChooseLayer());
    }
    return chooser.Finish().status();
  };
  Measure(state, choose, Gpu(), /*at_once=*/1);
  CountBytes(state, kLayers * cache.bytes());
}
BENCHMARK_CAPTURE(Choose, kvec, "kvec")->ArgName("entries")->Arg(8192)->Arg(32768)->UseManualTime();
BENCHMARK_CAPTURE(Choose, kvec_paper, "kvec-paper")
    ->ArgName("entries")
    ->Arg(32768)
    ->UseManualTime();
BENCHMARK_CAPTURE(Choose, snapkv, "snapkv")->ArgName("entries")->Arg(32768)->UseManualTime();

// Argument: entries.
void WindowScores(benchmark::State& state) {
  const Cache cache(1, Size(state, 0));
  const Window window(cache, MakePolicy("kvec", cache.entries)->needs());
  const auto stride = static_cast<size_t>(cache.entries);
  Buffer means(sizeof(float) * static_cast<size_t>(kShape.num_heads) * stride);
  Buffer workspace(sizeof(float) *
                   WindowWorkspaceFloats(kShape, window.num_queries, cache.entries));
  Measure(state, [&] {
    return Gpu().QueueWindowScores(kShape, window.request, *cache.arena, means.data(), nullptr,
                                   workspace.data());
  });
  CountBytes(state, cache.bytes());
}
BENCHMARK(WindowScores)->ArgName("entries")->Arg(8192)->Arg(32768)->UseManualTime();

// Argument: entries.
void ValueNorms(benchmark::State& state) {
  const Cache cache(1, Size(state, 0));
  Buffer norms(sizeof(float) * cache.heads.size() * static_cast<size_t>(cache.entries));
  Measure(state, [&] {
    return Gpu().QueueValueNorms(cache.Heads(0), cache.entries, *cache.arena, norms.data());
  });
  CountBytes(state, cache.bytes());
}
BENCHMARK(ValueNorms)->ArgName("entries")->Arg(32768)->UseManualTime();

// Every 16th entry of every head is kept. Argument: entries.
void GatherEntries(benchmark::State& state) {
  constexpr int kKeptOf = 16;
  const Cache cache(1, Size(state, 0));
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
  const int rows = Size(state, 0);
  Buffer x(sizeof(float) * static_cast<size_t>(rows) * kHidden);
  Buffer weight(sizeof(float) * kHidden);
  Buffer out(sizeof(float) * static_cast<size_t>(rows) * kHidden);
  Measure(state, [&] {
    return Gpu().RmsNorm(x.Matrix(rows, kHidden), weight.data(), 1e-5f, out.Input(rows, kHidden));
  });
  CountBytes(state, (4.0 + 2.0) * rows * kHidden);
}
BENCHMARK(RmsNorm)->ArgName("rows")->Arg(1)->Arg(512)->UseManualTime();

// Argument: rows.
void GatedActivation(benchmark::State& state) {
  const int rows = Size(state, 0);
  Buffer gate_up(2 * sizeof(float) * static_cast<size_t>(rows) * kIntermediate);
  Buffer out(sizeof(float) * static_cast<size_t>(rows) * kIntermediate);
  Measure(state, [&] {
    return Gpu().GatedActivation(gate_up.Matrix(rows, 2 * kIntermediate), Activation::kSilu,
                                 out.Input(rows, kIntermediate));
  });
  CountBytes(state, (2 * 4.0 + 2.0) * rows * kIntermediate);
}
BENCHMARK(GatedActivation)->ArgName("rows")->Arg(1)->Arg(512)->UseManualTime();

// Argument: rows.
void Sample(benchmark::State& state, const SampleRequest& request) {
  const int rows = Size(state, 0);
  Buffer logits(sizeof(float) * static_cast<size_t>(rows) * kVocabulary);
  std::vector<SampleRequest> requests(static_cast<size_t>(rows), request);
  for (int row = 0; row < rows; ++row) requests[static_cast<size_t>(row)].row = row;
  std::vector<SampleResult> results(requests.size());
  Measure(state, [&] {
    return Gpu().Sample(logits.Matrix(rows, kVocabulary), requests, absl::MakeSpan(results));
  });
  CountBytes(state, 4.0 * rows * kVocabulary);
}
const SampleRequest kGreedy{.temperature = 0};
const SampleRequest kTopP{.temperature = 1, .top_p = 0.9f};
BENCHMARK_CAPTURE(Sample, greedy, kGreedy)->ArgName("rows")->Arg(1)->Arg(64)->UseManualTime();
BENCHMARK_CAPTURE(Sample, top_p, kTopP)->ArgName("rows")->Arg(1)->Arg(64)->UseManualTime();

}  // namespace
}  // namespace kvec::kernels::cuda
