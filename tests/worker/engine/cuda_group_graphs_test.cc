// A group's decode Steps as CUDA graphs that hold NCCL's sums, on the host simulator: against the
// same group without graphs, and when a rank is lost.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/gpu_group.h"

namespace kvec::worker::engine {
namespace {

using kernels::cuda::GraphCounts;

std::vector<int32_t> PromptOf(int length) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < length; ++i) prompt.push_back((i * 37 + 11) % 250);
  return prompt;
}

// Steps of a group's sequences.
class Script {
 public:
  explicit Script(GpuGroup& group) : group_(group) {}

  v1::Step NewStep() {
    v1::Step step;
    step.set_step_id(next_step_id_++);
    return step;
  }

  // Begins a sequence; its cache is evicted from where entries of each KV head are given, which
  // heads share as they like: ranks then hold different numbers.
  void Start(int id, int prompt_tokens, int entries) {
    v1::StepSampling sampling = EngineHarness::GreedySampling();
    sampling.set_temperature(0.9);
    sampling.set_seed(static_cast<uint64_t>(id));
    v1::Step step = NewStep();
    EngineHarness::AddStart(static_cast<uint64_t>(id), prompt_tokens, sampling, step);
    EngineHarness::AddWork(static_cast<uint64_t>(id), PromptOf(prompt_tokens), 0, true, true, step);
    if (entries > 0) {
      *step.mutable_starts(0)->mutable_cache() = EngineHarness::CachePolicyOf("kvec");
      v1::EvictionOrder& eviction = *step.add_evictions();
      eviction.set_sequence_id(static_cast<uint64_t>(id));
      eviction.set_position(prompt_tokens);
      for (int layer = 0; layer < group_.config().num_layers; ++layer) {
        eviction.add_layer_budgets(group_.config().num_kv_heads * entries);
      }
    }
    Run(step);
    positions_[id] = prompt_tokens;
  }

  // A token of each of the first `count` sequences.
  v1::Step DecodeStep(int count) {
    v1::Step step = NewStep();
    for (auto& [id, position] : positions_) {
      if (count-- == 0) break;
      EngineHarness::AddWork(static_cast<uint64_t>(id), {}, position++, false, true, step);
    }
    return step;
  }
  void Decode(int count) { Run(DecodeStep(count)); }

  // What was sampled, Step by Step.
  const std::string& results() const { return results_; }

 private:
  void Run(const v1::Step& step) {
    const GroupShape shape = group_.shape();
    const auto sampler = static_cast<size_t>((shape.num_stages - 1) * shape.num_ranks);
    const v1::StepResult of_sampler = group_.Run(step)[sampler];
    for (const v1::SequenceResult& result : of_sampler.results()) {
      absl::StrAppend(&results_, result.ShortDebugString(), "\n");
    }
  }

  GpuGroup& group_;
  uint64_t next_step_id_ = 1;
  std::map<int, int> positions_;  // by sequence
  std::string results_;
};

std::string Play(GpuGroup& group, int longest_prompt) {
  Script script(group);
  script.Start(0, 40, 0);
  script.Start(1, 7, 0);
  script.Start(2, longest_prompt, longest_prompt * 6 / 7);
  for (int count : {3, 1}) {
    for (int step = 0; step < 5; ++step) script.Decode(count);
  }
  return script.results();
}

// What became of the work that has sums: all but sampling, which one rank does.
void ExpectAlike(const GraphCounts& a, const GraphCounts& b) {
  EXPECT_EQ(a.runs, b.runs);
  EXPECT_EQ(a.captures, b.captures);
  EXPECT_EQ(a.replays, b.replays);
}

struct Case {
  GroupShape shape;
  std::string model;
  int longest_prompt = 60;
};

class CudaGroupGraphsTest : public testing::TestWithParam<Case> {};
// Of 280 tokens the KV heads of one rank hold more than the 256 of a split, those of another fewer.
INSTANTIATE_TEST_SUITE_P(Shapes, CudaGroupGraphsTest,
                         testing::Values(Case{{1, 2}, "qwen3", 280}, Case{{1, 3}, "gemma3"},
                                         Case{{2, 2}, "gemma3"}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.shape.num_stages, "x",
                                               info.param.shape.num_ranks);
                         });

TEST_P(CudaGroupGraphsTest, AnswersDoNotDependOnThem) {
  const GroupShape shape = GetParam().shape;
  std::string expected;
  {
    GpuGroup without({.model = GetParam().model, .shape = shape, .use_graphs = false});
    expected = Play(without, GetParam().longest_prompt);
    EXPECT_EQ(without.gpu(0).graph_counts().captures, 0);
  }
  GpuGroup group({.model = GetParam().model, .shape = shape});
  EXPECT_EQ(Play(group, GetParam().longest_prompt), expected);
  for (int worker = 0; worker < shape.size(); ++worker) {
    const GraphCounts& counts = group.gpu(worker).graph_counts();
    EXPECT_EQ(counts.failed_captures, 0);
    EXPECT_GE(counts.replays, 4) << worker;
    EXPECT_EQ(group.gpu(worker).step_tables().max_decode_entries(),
              group.gpu(worker - worker % shape.num_ranks).step_tables().max_decode_entries());
  }
  if (shape.num_stages == 2) {
    ExpectAlike(group.gpu(0).graph_counts(), group.gpu(1).graph_counts());
  }
  if (shape.num_ranks == 3) {
    ExpectAlike(group.gpu(1).graph_counts(), group.gpu(2).graph_counts());
  }
}

// It has told what it will do, and then does not launch its graph. Its peer's stream comes to its
// end, and with the graphs goes the communicator; the group that is formed then begins anew, and
// has graphs of its own.
TEST(CudaGroupGraphsFailures, ARankThatIsLostIsNoticedByItsPeersDeadline) {
  GpuGroup group({.model = "llama", .shape = {1, 2}});
  const std::string expected = Play(group, 30);
  group.Form(absl::Seconds(8));  // more than a Step takes
  Script script(group);
  script.Start(0, 40, 0);
  for (int step = 0; step < 4; ++step) script.Decode(1);
  const GraphCounts& counts = group.gpu(0).graph_counts();
  const int64_t captures = counts.captures;
  const absl::Time begin = absl::Now();
  const absl::Status status = group.RunUntilPeerIsLost(script.DecodeStep(1));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_LT(absl::Now() - begin, absl::Seconds(30));
  EXPECT_EQ(counts.captures, captures + 1);  // the lost one's told that its memory has moved
  group.Form(absl::Seconds(60));
  EXPECT_EQ(Play(group, 30), expected);
  EXPECT_EQ(counts.failed_captures, 0);
}

}  // namespace
}  // namespace kvec::worker::engine
