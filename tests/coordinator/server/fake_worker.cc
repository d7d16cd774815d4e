#include "tests/coordinator/server/fake_worker.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/version.h"
#include "tests/coordinator/server/test_model.h"

namespace kvec::coordinator::server {
namespace {

constexpr std::chrono::seconds kPatience(20);

}  // namespace

FakeWorker::FakeWorker(const std::string& cluster_address, Options options)
    : options_(std::move(options)),
      stub_(v1::Cluster::NewStub(
          grpc::CreateChannel(cluster_address, grpc::InsecureChannelCredentials()))),
      allowed_steps_(options_.allowed_steps) {
  stream_ = stub_->Attach(&context_);
  thread_ = std::thread([this] { Run(); });
}

FakeWorker::~FakeWorker() {
  Disconnect();
  thread_.join();
}

void FakeWorker::Disconnect() {
  {
    const std::lock_guard lock(mutex_);
    is_disconnected_ = true;
  }
  changed_.notify_all();
  context_.TryCancel();
}

void FakeWorker::AllowSteps(int num_steps) {
  {
    const std::lock_guard lock(mutex_);
    allowed_steps_ += num_steps;
  }
  changed_.notify_all();
}

void FakeWorker::Leave() {
  v1::WorkerMessage message;
  message.mutable_leaving();
  Send(message);
  AwaitEnd();
}

bool FakeWorker::Await(const std::function<bool()>& condition) {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, std::chrono::system_clock::now() + kPatience, condition);
}

bool FakeWorker::AwaitReady() {
  return Await([this] { return is_ready_; });
}

bool FakeWorker::AwaitIdle() {
  return Await([this] { return num_executed_ > 0 && num_sequences_ == 0; });
}

bool FakeWorker::AwaitHeldStep() {
  return Await([this] { return holds_step_; });
}

bool FakeWorker::AwaitAbort() {
  return Await([this] { return is_aborted_; });
}

std::optional<absl::Status> FakeWorker::AwaitEnd() {
  Await([this] { return end_.has_value(); });
  const std::lock_guard lock(mutex_);
  return end_;
}

void FakeWorker::Run() {
  v1::WorkerMessage message;
  v1::Register& registration = *message.mutable_register_();
  registration.set_worker_id(options_.worker_id);
  registration.set_host("localhost");
  registration.set_device("fake");
  registration.set_version(options_.version.empty() ? std::string(Version()) : options_.version);
  registration.set_model_fingerprint(options_.fingerprint.empty() ? MakeTestModel()->fingerprint
                                                                  : options_.fingerprint);
  Send(message);
  v1::CoordinatorMessage incoming;
  while (stream_->Read(&incoming)) Handle(incoming);
  const absl::Status status = FromGrpcStatus(stream_->Finish());
  {
    const std::lock_guard lock(mutex_);
    end_ = status;
  }
  changed_.notify_all();
}

void FakeWorker::Handle(const v1::CoordinatorMessage& message) {
  if (options_.is_silent) return;
  if (message.has_form_group()) FormGroup(message.form_group());
  if (message.has_step() && message.step().group_epoch() == epoch_) Execute(message.step());
  if (message.has_abort_group()) {
    epoch_ = 0;
    {
      const std::lock_guard lock(mutex_);
      is_aborted_ = true;
      is_ready_ = false;
    }
    changed_.notify_all();
    v1::WorkerMessage answer;
    answer.mutable_group_aborted();
    Send(answer);
  }
}

void FakeWorker::FormGroup(const v1::FormGroup& form) {
  epoch_ = form.group_epoch();
  sequences_.clear();
  scheduler::WorkerCapacity capacity;
  capacity.total_pages = options_.total_pages;
  capacity.page_bytes = 1024;
  capacity.num_kv_heads = 2;
  capacity.stage = form.placement().stage();
  capacity.sliding_windows.assign(form.placement().num_layers(), 0);
  const bool is_sampler =
      form.placement().stage() + 1 == form.placement().num_stages() && form.placement().rank() == 0;
  executor_ = std::make_unique<scheduler::FakeWorker>(capacity, is_sampler);
  v1::WorkerMessage message;
  v1::GroupReady& ready = *message.mutable_group_ready();
  ready.set_group_epoch(epoch_);
  ready.set_total_pages(capacity.total_pages);
  ready.set_page_bytes(capacity.page_bytes);
  ready.set_num_kv_heads(capacity.num_kv_heads);
  ready.set_max_step_tokens(options_.max_step_tokens);
  Send(message);
  {
    const std::lock_guard lock(mutex_);
    is_ready_ = true;
  }
  changed_.notify_all();
}

void FakeWorker::Execute(const v1::Step& step) {
  {
    std::unique_lock lock(mutex_);
    holds_step_ = allowed_steps_ == 0;
    changed_.notify_all();
    changed_.wait(lock, [this] { return allowed_steps_ > 0 || is_disconnected_; });
    holds_step_ = false;
    if (is_disconnected_) return;
    --allowed_steps_;
  }
  absl::StatusOr<v1::StepResult> result = executor_->Execute(step);
  CHECK(result.ok()) << result.status();
  ApplyScript(step, *result);
  v1::WorkerMessage message;
  *message.mutable_step_result() = *std::move(result);
  Send(message);
  {
    const std::lock_guard lock(mutex_);
    ++num_executed_;
    num_sequences_ = executor_->num_sequences();
  }
  changed_.notify_all();
}

void FakeWorker::ApplyScript(const v1::Step& step, v1::StepResult& result) {
  const auto note = [this](const v1::SequenceStart& start) {
    sequences_[start.sequence_id()] = {start.prompt_tokens(), start.sampling().choice()};
  };
  for (const v1::SequenceStart& start : step.starts()) note(start);
  for (const v1::SequenceFork& fork : step.forks()) note(fork.child());
  for (v1::SequenceResult& sampled : *result.mutable_results()) {
    if (!sampled.has_token_id() || !options_.script) continue;
    const auto work = std::find_if(step.work().begin(), step.work().end(),
                                   [&](const v1::SequenceWork& candidate) {
                                     return candidate.sequence_id() == sampled.sequence_id();
                                   });
    const SequenceInfo& sequence = sequences_[sampled.sequence_id()];
    const uint32_t position = work->first_position() + std::max(1, work->token_ids_size());
    const int32_t token =
        options_.script(work->num_choices() > 1 ? sampled.choice() : sequence.choice,
                        position - sequence.prompt_tokens);
    sampled.set_token_id(static_cast<uint32_t>(token));
    if (sampled.has_logprobs()) {
      sampled.mutable_logprobs()->mutable_chosen()->set_token_id(sampled.token_id());
    }
  }
}

void FakeWorker::Send(const v1::WorkerMessage& message) {
  const std::lock_guard lock(write_mutex_);
  stream_->Write(message);
}

}  // namespace kvec::coordinator::server
