// CudaDevice::Sample.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/philox.h"
#include "tests/kernels/cpu/sampling_reference.h"
#include "tests/kernels/cuda/device_test.h"

namespace kvec::kernels::cuda {
namespace {

using ::testing::HasSubstr;

class CudaSampleTest : public DeviceTest {
 protected:
  absl::Status Run(const Matrix& logits, const std::vector<SampleRequest>& requests,
                   std::vector<SampleResult>& results) {
    DeviceMatrix device_logits(logits, stream_);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    results.resize(requests.size());
    const absl::Status status =
        device_->Sample(device_logits.tensor(), requests, absl::MakeSpan(results));
    return status.ok() ? device_->Synchronize() : status;
  }

  std::vector<SampleResult> SampleAll(const Matrix& logits,
                                      const std::vector<SampleRequest>& requests) {
    std::vector<SampleResult> results;
    const absl::Status status = Run(logits, requests, results);
    EXPECT_TRUE(status.ok()) << status << cusim::FaultMessage();
    return results;
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, CudaSampleTest, kAllOrders, OrderName);

TEST_P(CudaSampleTest, GreedyTakesTheLargestAndTheLowestOfEqualOnes) {
  for (int vocab : {1, 7, 513, 2100}) {
    Matrix logits = Matrix::Random(2, vocab, static_cast<uint32_t>(vocab));
    const int best = vocab / 2;
    logits.at(1, best) = logits.at(1, vocab - 1) = 50.0f;
    EXPECT_EQ(SampleAll(logits, {{.row = 1, .temperature = 0}})[0].token, best);
  }
}

// Draws with many positions. Tokens share [0, 1) in order of their ids, each by its probability:
// the draw must lie in the token's part.
void ExpectTokensAt(const std::vector<SampleResult>& results,
                    const std::vector<SampleRequest>& requests,
                    const std::vector<double>& probabilities) {
  constexpr double kTolerance = 1e-5;
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto token = static_cast<size_t>(results[i].token);
    const double begin =
        std::accumulate(probabilities.begin(), probabilities.begin() + results[i].token, 0.0);
    const double uniform = UniformDraw(requests[i].seed, requests[i].choice, requests[i].position);
    EXPECT_GT(probabilities[token], 0) << "token " << token << " should have been filtered out";
    EXPECT_GE(uniform, begin - kTolerance) << token;
    EXPECT_LE(uniform, begin + probabilities[token] + kTolerance) << token;
  }
}

TEST_P(CudaSampleTest, DrawsWithTheProbabilitiesOfTheReference) {
  const std::vector<TokenCount> counts = {{0, 2, 0}, {1, 0, 3}, {2, 1, 1}, {4, 0, 0}};
  const std::vector<std::pair<int32_t, float>> bias = {{3, 1.5f}, {4, -0.5f}};
  const std::vector<int32_t> banned = {5};
  const SampleRequest cases[] = {
      {},
      {.temperature = 0.5f},
      {.top_k = 1},
      {.top_k = 4},
      {.top_p = 0.6f},
      {.top_p = 0.05f},
      {.min_p = 0.2f},
      {.temperature = 2.0f, .top_k = 9, .top_p = 0.9f, .min_p = 0.3f},
      {.top_p = 0.95f, .min_p = 0.1f},
      {.logit_bias = bias, .banned = banned},
      {.repetition_penalty = 1.7f, .counts = counts},
      {.temperature = 0.8f,
       .top_k = 8,
       .top_p = 0.9f,
       .min_p = 0.05f,
       .repetition_penalty = 1.3f,
       .frequency_penalty = -0.2f,
       .presence_penalty = 0.1f,
       .counts = counts,
       .logit_bias = bias,
       .banned = banned},
  };
  for (int vocab : {11, 1500}) {
    const Matrix logits = Matrix::Random(1, vocab, 6, 1.5f);
    for (size_t i = 0; i < std::size(cases); ++i) {
      SCOPED_TRACE(testing::Message() << "case " << i << ", vocabulary " << vocab);
      std::vector<SampleRequest> requests(8, cases[i]);
      for (size_t j = 0; j < requests.size(); ++j) {
        requests[j].position = static_cast<uint32_t>(j);
      }
      ExpectTokensAt(SampleAll(logits, requests), requests, cpu::Probabilities(logits, cases[i]));
    }
  }
}

TEST_P(CudaSampleTest, EqualLogitsAreFilteredByTokenId) {
  const Matrix logits(1, 1000);
  std::vector<SampleRequest> requests;
  for (uint32_t position = 0; position < 4; ++position) {
    requests.push_back({.top_k = 3, .position = position});
    requests.push_back({.top_p = 0.0029f, .position = position});
  }
  for (const SampleResult& result : SampleAll(logits, requests)) EXPECT_LT(result.token, 3);
}

TEST_P(CudaSampleTest, LogProbabilitiesAreThoseOfTheLogitsAsTheyAre) {
  Matrix logits = Matrix::Random(1, 700, 3, 4.0f);
  logits.at(0, 2) = logits.at(0, 5) = 22.0f;  // equal: the lower id comes first
  const std::vector<std::pair<int32_t, float>> bias = {{1, 100.0f}};
  const std::vector<SampleResult> results =
      SampleAll(logits, {{.temperature = 0, .logit_bias = bias, .num_logprobs = 5},
                         {.given_token = 13},
                         {.num_logprobs = 0}});
  double sum = 0;
  for (int i = 0; i < 700; ++i) sum += std::exp(double{logits.at(0, i)});
  EXPECT_EQ(results[0].token, 1);
  EXPECT_NEAR(results[0].log_prob, logits.at(0, 1) - std::log(sum), 1e-5);
  std::vector<int32_t> order(700);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return logits.at(0, a) > logits.at(0, b); });
  ASSERT_EQ(results[0].top.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(results[0].top[i].first, order[i]);
    EXPECT_NEAR(results[0].top[i].second, logits.at(0, order[i]) - std::log(sum), 1e-5);
  }
  EXPECT_EQ(results[1].token, 13);
  EXPECT_NEAR(results[1].log_prob, logits.at(0, 13) - std::log(sum), 1e-5);
  EXPECT_TRUE(results[1].top.empty());
  EXPECT_TRUE(results[2].top.empty());
}

TEST_P(CudaSampleTest, LogitsThatAreNoNumbersNameTheirRow) {
  for (float bad : {NAN, INFINITY}) {
    Matrix logits = Matrix::Random(4, 97, 10);
    logits.at(3, 50) = bad;
    std::vector<SampleResult> results;
    const absl::Status status = Run(logits, {{.row = 3, .temperature = 0}}, results);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("row 3"));
    EXPECT_TRUE(Run(logits, {{.row = 2, .temperature = 0}}, results).ok());
  }
}

TEST_P(CudaSampleTest, RejectsWhatCannotBe) {
  Matrix logits(1, 40);
  for (int i = 0; i < 40; ++i) logits.at(0, i) = -INFINITY;
  logits.at(0, 33) = 1.0f;
  const std::vector<int32_t> banned = {33};
  EXPECT_EQ(SampleAll(logits, {{}})[0].token, 33);
  std::vector<SampleResult> results;
  absl::Status status = Run(logits, {{.banned = banned}}, results);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no token is left"));
  status = Run(logits, {{.row = 7}}, results);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("row: 7 of 1"));
}

// Batches of all sizes and kinds, of logits that lie in the same place, on one device: as graphs,
// which take what is uploaded, and on another as they come.
TEST_P(CudaSampleTest, GraphsSampleWhatIsUploaded) {
  constexpr int kVocab = 301;
  constexpr int kMaxRows = 5;
  auto without = CudaDevice::Create({.use_graphs = false});
  ASSERT_TRUE(without.ok()) << without.status();
  DeviceMatrix place(Matrix(kMaxRows, kVocab), stream_);
  const std::vector<int32_t> banned = {5, 7};
  const std::vector<TokenCount> counts = {{0, 2, 0}, {1, 0, 3}, {9, 1, 1}};
  for (int round = 0; round < 40; ++round) {
    Matrix logits = Matrix::Random(kMaxRows, kVocab, static_cast<uint32_t>(round), 3.0f);
    const size_t bytes = static_cast<size_t>(kMaxRows * logits.tensor().stride) * sizeof(float);
    ASSERT_EQ(cudaMemcpyAsync(place.tensor().data, logits.tensor().data, bytes,
                              cudaMemcpyHostToDevice, stream_),
              cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    std::vector<SampleRequest> requests;
    for (int row = 0; row <= round % kMaxRows; ++row) {
      requests.push_back({.row = row, .position = static_cast<uint32_t>(round), .num_logprobs = 2});
      if (round % 3 == 0) requests.back().banned = banned;
      if (round % 6 == 0) requests.back().counts = counts;
      if (round % 6 == 0) requests.back().frequency_penalty = 0.5f;
      if (row == 3) requests.back().temperature = 0;
    }
    std::vector<SampleResult> results[2];
    for (CudaDevice* device : {device_.get(), without->get()}) {
      std::vector<SampleResult>& own = results[device == device_.get() ? 0 : 1];
      own.resize(requests.size());
      ASSERT_TRUE(device->Sample(place.tensor(), requests, absl::MakeSpan(own)).ok());
      ASSERT_TRUE(device->Synchronize().ok()) << cusim::FaultMessage();
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(results[0][i].token, results[1][i].token) << round;
      EXPECT_EQ(results[0][i].log_prob, results[1][i].log_prob);
      EXPECT_EQ(results[0][i].top, results[1][i].top);
    }
  }
  // Of 1, 2, 4 and 8 tasks, with and without lists, each as it comes, then captured: some twice, as
  // larger batches move the results.
  EXPECT_EQ(device_->graph_counts().runs, 8);
  EXPECT_GE(device_->graph_counts().replays, 20);
  EXPECT_EQ((*without)->graph_counts().runs, 40);
}

}  // namespace
}  // namespace kvec::kernels::cuda
