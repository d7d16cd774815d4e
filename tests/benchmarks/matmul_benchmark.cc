// Products with weights of every kind at the shapes of SmolLM2-135M, on two threads: operations per
// second where rows are many, bytes of weights per second where there is one.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/cpu/random_weight.h"

namespace kvec::kernels::cpu {
namespace {

constexpr int kThreads = 2;

void MultiplyRows(benchmark::State& state, TensorType type, int out_features, int in_features) {
  const int num_rows = static_cast<int>(state.range(0));
  const RandomWeight source(type, out_features, in_features, /*seed=*/1);
  ThreadPool pool(kThreads);
  auto weight = PrepareWeight(pool, {source.source()}, DetectIsa());
  CHECK(weight.ok()) << weight.status();
  std::vector<float> x(static_cast<size_t>(num_rows) * in_features);
  std::mt19937 random(2);
  for (float& value : x) value = std::normal_distribution<float>()(random);
  std::vector<float> y(static_cast<size_t>(num_rows) * out_features);
  MatMulScratch scratch(kThreads);
  for (auto _ : state) {
    const absl::Status status =
        MatMul(pool, **weight, {x.data(), num_rows, in_features, in_features}, nullptr,
               MatMulMode::kOverwrite, {y.data(), num_rows, out_features, out_features}, scratch);
    CHECK(status.ok()) << status;
  }
  const double iterations = static_cast<double>(state.iterations());
  state.counters["op/s"] = benchmark::Counter(
      2.0 * num_rows * out_features * in_features * iterations, benchmark::Counter::kIsRate);
  state.counters["weight_B/s"] = benchmark::Counter(
      static_cast<double>((*weight)->bytes()) * iterations, benchmark::Counter::kIsRate);
}

// benchmark_main runs what static initialisation has registered.
bool RegisterAll() {
  struct Shape {
    int out_features;
    int in_features;
  };
  for (TensorType type : {TensorType::kQ4_1, TensorType::kQ4_0, TensorType::kQ8_0,
                          TensorType::kQ6_K, TensorType::kBF16, TensorType::kF32}) {
    for (Shape shape : {Shape{960, 576}, Shape{576, 576}, Shape{3072, 576}, Shape{576, 1536},
                        Shape{49152, 576}}) {
      if (shape.in_features % GetTraits(type).block_elements != 0) continue;
      benchmark::RegisterBenchmark(
          (std::string(GetTraits(type).name) + "/" + std::to_string(shape.out_features) + "x" +
           std::to_string(shape.in_features))
              .c_str(),
          MultiplyRows, type, shape.out_features, shape.in_features)
          ->Arg(1)
          ->Arg(8)
          ->Arg(512)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
  return true;
}

[[maybe_unused]] const bool kRegistered = RegisterAll();

}  // namespace
}  // namespace kvec::kernels::cpu
