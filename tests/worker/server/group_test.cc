// Several workers of one group, each in threads of the test and attached to a coordinator of its
// own, so that the test decides what each is told and when.

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/server/fake_coordinator.h"
#include "worker/server/worker.h"

namespace kvec::worker::server {
namespace {

using ::testing::HasSubstr;

constexpr char kModel[] = KVEC_SOURCE_DIR "/tests/worker/model/tiny/llama";

class TestWorker {
 public:
  explicit TestWorker(const std::string& worker_id) {
    auto files = ModelFiles::Open(kModel);
    EXPECT_TRUE(files.ok()) << files.status();
    files_ = *std::move(files);
    auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
    EXPECT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    Worker::Options options;
    options.worker_id = worker_id;
    options.kv_bytes = 1 << 20;
    options.heartbeat_interval = absl::Milliseconds(20);
    options.max_backoff = absl::Milliseconds(50);
    worker_ = std::make_unique<Worker>(*files_, *device_, options);
    thread_ = std::thread([this] { (void)worker_->Serve(coordinator_.address()); });
  }

  ~TestWorker() {
    worker_->Stop();
    thread_.join();
  }

  // Its address in the registration that comes next.
  std::string TakeRegistration() {
    const std::optional<v1::WorkerMessage> message = coordinator_.Next();
    EXPECT_TRUE(message.has_value() && message->has_register_());
    return message->register_().comm_address();
  }

  FakeCoordinator& coordinator() { return coordinator_; }
  int num_layers() const { return files_->config().num_layers; }

 private:
  FakeCoordinator coordinator_;
  std::unique_ptr<ModelFiles> files_;
  std::unique_ptr<kernels::cpu::CpuDevice> device_;
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
};

v1::CoordinatorMessage PromptStep(uint64_t epoch, uint64_t step_id) {
  v1::CoordinatorMessage message;
  v1::Step& step = *message.mutable_step();
  step.set_group_epoch(epoch);
  step.set_step_id(step_id);
  v1::SequenceStart& start = *step.add_starts();
  start.set_sequence_id(step_id);
  start.set_prompt_tokens(5);
  start.mutable_cache()->set_policy("full");
  start.mutable_sampling()->set_top_p(1);
  start.mutable_sampling()->set_repetition_penalty(1);
  start.mutable_sampling()->set_logprobs(3);
  start.mutable_sampling()->set_prompt_logprobs(-1);
  v1::SequenceWork& work = *step.add_work();
  work.set_sequence_id(step_id);
  for (uint32_t token : {5, 6, 7, 200, 33}) work.add_token_ids(token);
  work.set_is_prompt(true);
  work.set_sample(true);
  return message;
}

v1::CoordinatorMessage AbortMessage() {
  v1::CoordinatorMessage message;
  message.mutable_abort_group()->set_reason("test");
  return message;
}

class WorkerGroupTest : public testing::Test {
 protected:
  // Sends FormGroup to the workers, stage-major, and awaits that they are ready.
  void Form(uint64_t epoch, int num_stages, int num_ranks, const std::vector<TestWorker*>& workers,
            const std::vector<std::string>& addresses) {
    SendForm(epoch, num_stages, num_ranks, workers, addresses);
    for (TestWorker* worker : workers) {
      const std::optional<v1::WorkerMessage> ready = worker->coordinator().Next();
      ASSERT_TRUE(ready.has_value());
      ASSERT_TRUE(ready->has_group_ready()) << ready->DebugString();
      EXPECT_EQ(ready->group_ready().group_epoch(), epoch);
    }
  }

  void SendForm(uint64_t epoch, int num_stages, int num_ranks,
                const std::vector<TestWorker*>& workers,
                const std::vector<std::string>& addresses) {
    const int stage_layers = workers[0]->num_layers() / num_stages;
    for (int i = 0; i < static_cast<int>(workers.size()); ++i) {
      v1::CoordinatorMessage message;
      v1::FormGroup& form = *message.mutable_form_group();
      form.set_group_epoch(epoch);
      v1::Placement& placement = *form.mutable_placement();
      const int stage = i / num_ranks;
      placement.set_stage(stage);
      placement.set_num_stages(num_stages);
      placement.set_rank(i % num_ranks);
      placement.set_num_ranks(num_ranks);
      placement.set_first_layer(stage * stage_layers);
      placement.set_num_layers(
          stage + 1 == num_stages ? workers[0]->num_layers() - stage * stage_layers : stage_layers);
      for (const std::string& address : addresses) form.add_comm_addresses(address);
      workers[i]->coordinator().Send(message);
    }
  }

  // Has the workers execute a Step, and gives the result of the one that samples.
  v1::SequenceResult Execute(const v1::CoordinatorMessage& step,
                             const std::vector<TestWorker*>& workers) {
    for (TestWorker* worker : workers) worker->coordinator().Send(step);
    v1::SequenceResult sampled;
    for (TestWorker* worker : workers) {
      const std::optional<v1::WorkerMessage> result = worker->coordinator().Next();
      EXPECT_TRUE(result.has_value() && result->has_step_result());
      if (!result.has_value()) continue;
      EXPECT_EQ(result->step_result().step_id(), step.step().step_id()) << result->DebugString();
      for (const v1::SequenceResult& of_sequence : result->step_result().results()) {
        if (of_sequence.has_token_id()) sampled = of_sequence;
      }
    }
    return sampled;
  }

  // Whether the stage's worker says, from some heartbeat on, that it waits: not in a Step.
  void AwaitWaiting(TestWorker& worker, uint64_t steps_begun) {
    for (int i = 0; i < 1000; ++i) {
      const std::optional<v1::WorkerMessage> heartbeat = worker.coordinator().NextHeartbeat();
      ASSERT_TRUE(heartbeat.has_value());
      if (heartbeat->heartbeat().steps_begun() >= steps_begun &&
          !heartbeat->heartbeat().in_step()) {
        return;
      }
    }
    FAIL() << "it never waited";
  }
};

TEST_F(WorkerGroupTest, StagesGiveTheLogProbabilitiesOfAWholeModel) {
  TestWorker whole("whole");
  TestWorker first("first");
  TestWorker second("second");
  whole.TakeRegistration();
  Form(1, 1, 1, {&whole}, {""});
  Form(1, 2, 1, {&first, &second}, {first.TakeRegistration(), second.TakeRegistration()});
  const v1::SequenceResult expected = Execute(PromptStep(1, 1), {&whole});
  const v1::SequenceResult result = Execute(PromptStep(1, 1), {&first, &second});
  EXPECT_EQ(result.token_id(), expected.token_id());
  EXPECT_EQ(result.logprobs().SerializeAsString(), expected.logprobs().SerializeAsString());
}

TEST_F(WorkerGroupTest, RanksGiveTheTokenOfAWholeModel) {
  TestWorker whole("whole");
  TestWorker first("first");
  TestWorker second("second");
  whole.TakeRegistration();
  Form(1, 1, 1, {&whole}, {""});
  Form(1, 1, 2, {&first, &second}, {first.TakeRegistration(), second.TakeRegistration()});
  const v1::SequenceResult expected = Execute(PromptStep(1, 1), {&whole});
  const v1::SequenceResult result = Execute(PromptStep(1, 1), {&first, &second});
  EXPECT_EQ(result.token_id(), expected.token_id());
  EXPECT_NEAR(result.logprobs().chosen().log_prob(), expected.logprobs().chosen().log_prob(), 1e-3);
}

TEST_F(WorkerGroupTest, AbortGroupEndsAStepThatWaitsForAPeerAtOnce) {
  TestWorker first("first");
  TestWorker second("second");
  const std::vector<std::string> addresses = {first.TakeRegistration(), second.TakeRegistration()};
  Form(1, 2, 1, {&first, &second}, addresses);
  second.coordinator().Send(PromptStep(1, 1));  // and the first stage never hears of it
  AwaitWaiting(second, 1);
  const absl::Time begin = absl::Now();
  std::vector<std::string> new_addresses;
  for (TestWorker* worker : {&first, &second}) {
    worker->coordinator().Send(AbortMessage());
    std::optional<v1::WorkerMessage> answer = worker->coordinator().Next();
    ASSERT_TRUE(answer.has_value());
    if (answer->has_error()) {
      EXPECT_EQ(worker, &second);
      EXPECT_EQ(answer->error().code(), static_cast<int>(absl::StatusCode::kUnavailable));
      answer = worker->coordinator().Next();
      ASSERT_TRUE(answer.has_value());
    }
    ASSERT_TRUE(answer->has_group_aborted()) << answer->DebugString();
    new_addresses.push_back(answer->group_aborted().comm_address());
  }
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
  EXPECT_NE(new_addresses[0], addresses[0]);
  EXPECT_NE(new_addresses[1], addresses[1]);
  Form(2, 2, 1, {&first, &second}, new_addresses);
  EXPECT_TRUE(Execute(PromptStep(2, 2), {&first, &second}).has_token_id());
}

TEST_F(WorkerGroupTest, TheEndOfTheStreamEndsAStepThatWaitsForAPeer) {
  TestWorker first("first");
  TestWorker second("second");
  Form(1, 2, 1, {&first, &second}, {first.TakeRegistration(), second.TakeRegistration()});
  second.coordinator().Send(PromptStep(1, 1));
  AwaitWaiting(second, 1);
  for (TestWorker* worker : {&first, &second}) {
    worker->coordinator().CloseStream(grpc::Status(grpc::StatusCode::UNAVAILABLE, "test"));
  }
  Form(2, 2, 1, {&first, &second}, {first.TakeRegistration(), second.TakeRegistration()});
  EXPECT_TRUE(Execute(PromptStep(2, 2), {&first, &second}).has_token_id());
}

TEST_F(WorkerGroupTest, AbortGroupEndsTheWaitForAMemberThatNeverComes) {
  TestWorker first("first");
  TestWorker absent("absent");
  SendForm(1, 2, 1, {&first}, {first.TakeRegistration(), absent.TakeRegistration()});
  first.coordinator().Send(AbortMessage());
  std::optional<v1::WorkerMessage> answer = first.coordinator().Next();
  if (answer.has_value() && answer->has_error()) answer = first.coordinator().Next();
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->has_group_aborted()) << answer->DebugString();
}

TEST_F(WorkerGroupTest, SaysWhichAddressIsNone) {
  TestWorker first("first");
  SendForm(1, 2, 1, {&first}, {first.TakeRegistration(), "noise"});
  const std::optional<v1::WorkerMessage> error = first.coordinator().Next();
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->error().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(error->error().message(), HasSubstr("comm_addresses[1] has 5 bytes"));
}

// A survivor keeps its weights: in the next group it is at work while the new one still loads.
TEST_F(WorkerGroupTest, AnotherWorkerTakesTheLostOnesPlace) {
  TestWorker first("first");
  auto second = std::make_unique<TestWorker>("second");
  Form(1, 1, 2, {&first, second.get()}, {first.TakeRegistration(), second->TakeRegistration()});
  const v1::SequenceResult before = Execute(PromptStep(1, 1), {&first, second.get()});
  second.reset();
  first.coordinator().Send(AbortMessage());
  const std::optional<v1::WorkerMessage> answer = first.coordinator().Next();
  ASSERT_TRUE(answer.has_value());
  TestWorker third("third");
  Form(2, 1, 2, {&first, &third},
       {answer->group_aborted().comm_address(), third.TakeRegistration()});
  const v1::SequenceResult after = Execute(PromptStep(2, 1), {&first, &third});
  EXPECT_EQ(after.SerializeAsString(), before.SerializeAsString());
}

}  // namespace
}  // namespace kvec::worker::server
