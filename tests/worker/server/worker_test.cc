#include "worker/server/worker.h"

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/version.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/server/fake_coordinator.h"

namespace kvec::worker::server {
namespace {

using ::testing::ElementsAre;

constexpr char kModel[] = KVEC_SOURCE_DIR "/tests/worker/model/tiny/llama";

v1::CoordinatorMessage FormGroupMessage(uint64_t epoch, int num_layers) {
  v1::CoordinatorMessage message;
  v1::FormGroup& form = *message.mutable_form_group();
  form.set_group_epoch(epoch);
  form.mutable_placement()->set_num_stages(1);
  form.mutable_placement()->set_num_ranks(1);
  form.mutable_placement()->set_num_layers(num_layers);
  return message;
}

// A Step that starts a sequence and samples after its prompt.
v1::CoordinatorMessage PromptStep(uint64_t epoch, uint64_t step_id, uint64_t sequence_id) {
  v1::CoordinatorMessage message;
  v1::Step& step = *message.mutable_step();
  step.set_group_epoch(epoch);
  step.set_step_id(step_id);
  v1::SequenceStart& start = *step.add_starts();
  start.set_sequence_id(sequence_id);
  start.set_prompt_tokens(3);
  start.mutable_cache()->set_policy("full");
  start.mutable_sampling()->set_top_p(1);
  start.mutable_sampling()->set_repetition_penalty(1);
  start.mutable_sampling()->set_logprobs(-1);
  v1::SequenceWork& work = *step.add_work();
  work.set_sequence_id(sequence_id);
  for (uint32_t token : {5, 6, 7}) work.add_token_ids(token);
  work.set_is_prompt(true);
  work.set_sample(true);
  return message;
}

class WorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto files = ModelFiles::Open(kModel);
    ASSERT_TRUE(files.ok()) << files.status();
    files_ = *std::move(files);
    auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    Worker::Options options;
    options.worker_id = "w0";
    options.kv_bytes = 1 << 20;
    options.available_bytes = 5 << 20;
    options.read_bytes_per_second = 7'000'000'000;
    options.heartbeat_interval = absl::Milliseconds(20);
    options.max_backoff = absl::Milliseconds(50);
    worker_ = std::make_unique<Worker>(*files_, *device_, options);
    Serve(coordinator_.address());
  }

  void Serve(const std::string& address) {
    thread_ = std::thread([this, address] { serve_status_ = worker_->Serve(address); });
  }

  void TearDown() override {
    worker_->Stop();
    if (thread_.joinable()) thread_.join();
  }

  int num_layers() const { return files_->config().num_layers; }

  // Takes the registration, and forms a group of this worker.
  void Form(uint64_t epoch) {
    ASSERT_TRUE(coordinator_.Next()->has_register_());
    coordinator_.Send(FormGroupMessage(epoch, num_layers()));
    ASSERT_TRUE(coordinator_.Next()->has_group_ready());
  }

  FakeCoordinator coordinator_;
  std::unique_ptr<ModelFiles> files_;
  std::unique_ptr<kernels::cpu::CpuDevice> device_;
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
  absl::Status serve_status_;
};

TEST_F(WorkerTest, RegistersWithVersionAndFingerprint) {
  const std::optional<v1::WorkerMessage> message = coordinator_.Next();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->register_().worker_id(), "w0");
  EXPECT_EQ(message->register_().version(), Version());
  EXPECT_EQ(message->register_().model_fingerprint(), files_->fingerprint());
  EXPECT_EQ(message->register_().read_bytes_per_second(), 7'000'000'000);
  EXPECT_EQ(message->register_().memory_bytes(), 5u << 20);
  EXPECT_TRUE(message->register_().shares_memory());
}

TEST_F(WorkerTest, FormsAGroupAndExecutesSteps) {
  ASSERT_TRUE(coordinator_.Next()->has_register_());
  coordinator_.Send(FormGroupMessage(7, num_layers()));
  const std::optional<v1::WorkerMessage> ready = coordinator_.Next();
  ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->group_ready().group_epoch(), 7u);
  EXPECT_EQ(ready->group_ready().total_pages(), (1u << 20) / ready->group_ready().page_bytes());

  coordinator_.Send(PromptStep(7, 1, 100));
  const std::optional<v1::WorkerMessage> result = coordinator_.Next();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->step_result().step_id(), 1u);
  ASSERT_EQ(result->step_result().results_size(), 1);
  EXPECT_TRUE(result->step_result().results(0).has_token_id());
  EXPECT_LT(result->step_result().free_pages(), ready->group_ready().total_pages());
}

TEST_F(WorkerTest, DropsStepsOfAnotherEpoch) {
  Form(2);
  coordinator_.Send(PromptStep(1, 1, 100));
  coordinator_.Send(PromptStep(2, 2, 101));
  EXPECT_EQ(coordinator_.Next()->step_result().step_id(), 2u);
}

TEST_F(WorkerTest, TellsWhatATracedStepWasSpentOn) {
  Form(1);
  v1::CoordinatorMessage untraced = PromptStep(1, 1, 100);
  coordinator_.Send(untraced);
  EXPECT_EQ(coordinator_.Next()->step_result().spans_size(), 0);
  for (uint64_t id : {2, 3}) {
    v1::CoordinatorMessage message = PromptStep(1, id, 100 + id);
    message.mutable_step()->set_trace(true);
    coordinator_.Send(message);
    const v1::StepResult result = coordinator_.Next()->step_result();
    std::vector<std::string> names;
    std::vector<const v1::TraceSpan*> open;
    for (const v1::TraceSpan& span : result.spans()) {
      names.push_back(span.name());
      EXPECT_GE(span.duration_ns(), 0) << span.name();
      const int64_t end = span.begin_ns() + span.duration_ns();
      while (!open.empty() &&
             span.begin_ns() >= open.back()->begin_ns() + open.back()->duration_ns())
        open.pop_back();
      for (const v1::TraceSpan* outer : open) {
        EXPECT_LE(end, outer->begin_ns() + outer->duration_ns())
            << span.name() << " in " << outer->name();
      }
      open.push_back(&span);
    }
    if (id == 2) {
      EXPECT_THAT(names, ElementsAre("step", "layers", "head", "sample"));
    } else {
      EXPECT_THAT(names, ElementsAre("answer", "idle", "step", "layers", "head", "sample"));
    }
  }
}

TEST_F(WorkerTest, ReportsAStepThatDoesNotFitItsSequences) {
  Form(1);
  v1::CoordinatorMessage message = PromptStep(1, 1, 100);
  message.mutable_step()->mutable_work(0)->set_first_position(9);
  coordinator_.Send(message);
  const std::optional<v1::WorkerMessage> error = coordinator_.Next();
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->error().group_epoch(), 1u);
  EXPECT_EQ(error->error().message(), "sequence 100: first_position 9, the cache is at 0");

  coordinator_.Send(FormGroupMessage(2, num_layers()));
  ASSERT_TRUE(coordinator_.Next()->has_group_ready());
  coordinator_.Send(PromptStep(2, 2, 100));
  EXPECT_EQ(coordinator_.Next()->step_result().step_id(), 2u);
}

TEST_F(WorkerTest, ForgetsSequencesWhenTheGroupIsAborted) {
  Form(1);
  coordinator_.Send(PromptStep(1, 1, 100));
  ASSERT_TRUE(coordinator_.Next()->has_step_result());
  v1::CoordinatorMessage abort;
  abort.mutable_abort_group()->set_reason("test");
  coordinator_.Send(abort);
  ASSERT_TRUE(coordinator_.Next()->has_group_aborted());
  coordinator_.Send(FormGroupMessage(2, num_layers()));
  ASSERT_TRUE(coordinator_.Next()->has_group_ready());
  // Would be "started twice" if the worker still knew it.
  coordinator_.Send(PromptStep(2, 2, 100));
  EXPECT_EQ(coordinator_.Next()->step_result().step_id(), 2u);
}

TEST_F(WorkerTest, AttachesAgainWhenTheStreamBreaks) {
  Form(1);
  coordinator_.CloseStream(grpc::Status(grpc::StatusCode::UNAVAILABLE, "test"));
  Form(2);
  coordinator_.Send(PromptStep(2, 1, 100));
  EXPECT_EQ(coordinator_.Next()->step_result().group_epoch(), 2u);
}

TEST_F(WorkerTest, SendsHeartbeats) {
  ASSERT_TRUE(coordinator_.Next()->has_register_());
  const std::optional<v1::WorkerMessage> heartbeat = coordinator_.NextHeartbeat();
  ASSERT_TRUE(heartbeat.has_value());
  EXPECT_GT(heartbeat->heartbeat().resident_bytes(), 0u);
}

TEST_F(WorkerTest, EndsWhenTheCoordinatorRefusesIt) {
  ASSERT_TRUE(coordinator_.Next()->has_register_());
  coordinator_.RefuseNext(
      grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "model_fingerprint: other"));
  coordinator_.CloseStream(grpc::Status(grpc::StatusCode::UNAVAILABLE, "test"));
  thread_.join();
  EXPECT_EQ(serve_status_, absl::FailedPreconditionError("model_fingerprint: other"));
}

TEST_F(WorkerTest, WaitsForACoordinatorThatListensLater) {
  ASSERT_TRUE(coordinator_.Next()->has_register_());
  worker_->Stop();
  thread_.join();
  const int port = FakeCoordinator().port();  // free again
  Worker::Options options;
  options.worker_id = "early";
  options.kv_bytes = 1 << 20;
  worker_ = std::make_unique<Worker>(*files_, *device_, options);
  Serve("127.0.0.1:" + std::to_string(port));
  FakeCoordinator late(port);
  const std::optional<v1::WorkerMessage> message = late.Next();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->register_().worker_id(), "early");
  worker_->Stop();
  thread_.join();
}

TEST_F(WorkerTest, SaysThatItLeavesAndGoesOnUntilItIsLetGo) {
  Form(1);
  worker_->Leave();
  EXPECT_TRUE(coordinator_.Next()->has_leaving());
  coordinator_.Send(PromptStep(1, 1, 100));
  EXPECT_EQ(coordinator_.Next()->step_result().step_id(), 1u);
  coordinator_.CloseStream(grpc::Status::OK);
  thread_.join();
  EXPECT_TRUE(serve_status_.ok()) << serve_status_;
}

TEST_F(WorkerTest, LeavesAtOnceWhereThereIsNoCoordinator) {
  ASSERT_TRUE(coordinator_.Next()->has_register_());
  worker_->Stop();
  thread_.join();
  const int port = FakeCoordinator().port();  // free again
  Worker::Options options;
  options.worker_id = "alone";
  options.kv_bytes = 1 << 20;
  worker_ = std::make_unique<Worker>(*files_, *device_, options);
  Serve("127.0.0.1:" + std::to_string(port));
  worker_->Leave();
  thread_.join();
  EXPECT_TRUE(serve_status_.ok()) << serve_status_;
}

TEST_F(WorkerTest, EndsServeWithOkWhenStopped) {
  ASSERT_TRUE(coordinator_.Next()->has_register_());
  worker_->Stop();
  thread_.join();
  EXPECT_TRUE(serve_status_.ok()) << serve_status_;
}

}  // namespace
}  // namespace kvec::worker::server
