#include "worker/server/worker.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/security/secret.h"
#include "common/status_macros.h"
#include "common/version.h"
#include "worker/comm/peer_address.h"
#include "worker/server/resident_memory.h"
#include "worker/server/worker_flags.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::server {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);
// A Step carries token ids, a result log-probabilities: both stay far below.
constexpr int kMaxMessageBytes = 64 << 20;
// How late Stop may be noticed while there is no connection.
constexpr absl::Duration kStopCheck = absl::Milliseconds(100);
constexpr char kJoinTokenVariable[] = "KVEC_JOIN_TOKEN";

// Whether the coordinator said no, so that asking again is useless.
bool IsRefusal(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status) ||
         absl::IsUnauthenticated(status);
}

}  // namespace

Worker::Worker(const ModelFiles& files, kernels::Device& device, Options options)
    : files_(files),
      device_(device),
      options_(std::move(options)),
      comm_slot_(options_.comm, options_.device_comm) {}

absl::Status Worker::Serve(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // A coordinator that is not there yet is asked for often: connecting is cheap, and everything
  // waits for it. gRPC's own pauses grow to minutes.
  const auto milliseconds = [](absl::Duration duration) {
    return static_cast<int>(absl::ToInt64Milliseconds(duration));
  };
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, milliseconds(kFirstBackoff));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, milliseconds(options_.max_backoff));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, milliseconds(kFirstBackoff));
  // Notices a coordinator that a network lost without a word. Not more often than the coordinator
  // takes it.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 15'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  KVEC_ASSIGN_OR_RETURN(const auto credentials,
                        security::MakeChannelCredentials(options_.tls, arguments));
  const auto channel = grpc::CreateCustomChannel(address, credentials, arguments);
  const auto stub = v1::Cluster::NewStub(channel);
  absl::Duration backoff = kFirstBackoff;
  absl::Status last_status;
  while (true) {
    const absl::Time begin = absl::Now();
    const absl::Status status = RunAttachment(address, *channel, *stub);
    absl::MutexLock lock(&mutex_);
    if (is_ending()) return absl::OkStatus();
    if (IsRefusal(status)) return status;
    // While nobody listens there it would be the same line again and again.
    if (status != last_status) {
      LOG(WARNING) << "detached from " << address << ": " << status.message();
    }
    last_status = status;
    if (absl::Now() - begin > options_.max_backoff) backoff = kFirstBackoff;
    mutex_.AwaitWithTimeout(absl::Condition(this, &Worker::is_ending), backoff);
    if (is_ending()) return absl::OkStatus();
    backoff = std::min(2 * backoff, options_.max_backoff);
  }
}

void Worker::Leave() {
  absl::MutexLock lock(&mutex_);
  leaving_ = true;
}

void Worker::Stop() {
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
  if (context_ != nullptr) context_->TryCancel();
}

void Worker::AwaitConnection(grpc::Channel& channel) {
  const absl::Time deadline = absl::Now() + options_.max_backoff;
  while (absl::Now() < deadline) {
    if (channel.WaitForConnected(absl::ToChronoTime(absl::Now() + kStopCheck))) return;
    absl::MutexLock lock(&mutex_);
    if (is_ending()) return;
  }
}

absl::Status Worker::RunAttachment(const std::string& address, grpc::Channel& channel,
                                   v1::Cluster::Stub& stub) {
  coordinator_ = address;
  KVEC_RETURN_IF_ERROR(comm_slot_.Renew(coordinator_));
  grpc::ClientContext context;
  // Each time: a new one may be in the file since the last.
  KVEC_ASSIGN_OR_RETURN(const std::string join_token,
                        security::ReadToken(options_.join_token_file, kJoinTokenVariable));
  if (!join_token.empty()) context.AddMetadata("authorization", "Bearer " + join_token);
  // No set_wait_for_ready: it would also hide why there is no connection, a certificate for
  // instance.
  AwaitConnection(channel);
  {
    absl::MutexLock lock(&mutex_);
    if (is_ending()) return absl::OkStatus();
    context_ = &context;
    attachment_ended_ = false;
  }
  const std::unique_ptr<Stream> stream = stub.Attach(&context);
  Send(*stream, RegisterMessage());
  StepQueue queue;
  std::thread executor([&] { ExecuteMessages(*stream, queue); });
  std::thread heartbeats([&] { SendHeartbeats(*stream); });
  ReadMessages(*stream, queue);
  queue.Close();
  comm_slot_.Abort();
  {
    absl::MutexLock lock(&mutex_);
    attachment_ended_ = true;
  }
  executor.join();
  heartbeats.join();
  const grpc::Status status = stream->Finish();
  absl::MutexLock lock(&mutex_);
  context_ = nullptr;
  return FromGrpcStatus(status);
}

void Worker::ReadMessages(Stream& stream, StepQueue& queue) {
  for (v1::CoordinatorMessage message; stream.Read(&message);) {
    // At once: the Step that is being executed may wait for a peer that is no more.
    if (message.has_abort_group()) comm_slot_.Abort();
    queue.Push(std::move(message));
  }
}

void Worker::ExecuteMessages(Stream& stream, StepQueue& queue) {
  while (std::optional<v1::CoordinatorMessage> message = queue.Pop()) {
    const absl::Status status = Handle(*message, stream);
    if (status.ok()) continue;
    LOG(ERROR) << "group " << group_epoch_ << ": " << status.message();
    v1::WorkerMessage error;
    error.mutable_error()->set_group_epoch(group_epoch_);
    error.mutable_error()->set_code(static_cast<int>(status.code()));
    error.mutable_error()->set_message(std::string(status.message()));
    Send(stream, error);
    LeaveGroup();  // Steps that are still queued belong to a group that is no more
  }
  LeaveGroup();
}

void Worker::SendHeartbeats(Stream& stream) {
  bool said_leaving = false;
  while (true) {
    v1::WorkerMessage message;
    {
      absl::MutexLock lock(&mutex_);
      const auto has_news = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return attachment_ended_ || (leaving_ && !said_leaving);
      };
      mutex_.AwaitWithTimeout(absl::Condition(&has_news), options_.heartbeat_interval);
      if (attachment_ended_) return;
      if (leaving_ && !said_leaving) message.mutable_leaving();
    }
    said_leaving = said_leaving || message.has_leaving();
    if (!message.has_leaving()) message = HeartbeatMessage();
    Send(stream, message);
  }
}

absl::Status Worker::Handle(const v1::CoordinatorMessage& message, Stream& stream) {
  switch (message.message_case()) {
    case v1::CoordinatorMessage::kFormGroup:
      return FormGroup(message.form_group(), stream);
    case v1::CoordinatorMessage::kStep:
      return ExecuteStep(message.step(), stream);
    case v1::CoordinatorMessage::kAbortGroup:
      return AbortGroup(message.abort_group(), stream);
    case v1::CoordinatorMessage::MESSAGE_NOT_SET:
      break;
  }
  return absl::InternalError("coordinator message: unknown kind");
}

void Worker::LeaveGroup() {
  if (engine_ != nullptr) engine_->SetComm(nullptr);
  comm_.reset();
  group_epoch_ = 0;
}

absl::Status Worker::AbortGroup(const v1::AbortGroup& abort, Stream& stream) {
  LOG(WARNING) << "group " << group_epoch_ << " aborted: " << abort.reason();
  LeaveGroup();
  if (const absl::Status status = comm_slot_.Renew(coordinator_); !status.ok()) {
    LOG(WARNING) << "no communicator until the next abort: " << status.message();
  }
  v1::WorkerMessage answer;
  answer.mutable_group_aborted()->set_comm_address(comm_slot_.address());
  Send(stream, answer);
  return absl::OkStatus();
}

int64_t Worker::KvBytes(const v1::FormGroup& form) const {
  if (options_.kv_bytes > 0) return options_.kv_bytes;
  const ModelConfig& config = files_.config();
  const int num_ranks = static_cast<int>(form.placement().num_ranks());
  // Where ranks don't divide them, neighbours may hold the same one.
  const int num_kv_heads =
      (config.num_kv_heads + num_ranks - 1) / num_ranks + (config.num_kv_heads % num_ranks ? 1 : 0);
  const std::vector<std::string> addresses(form.comm_addresses().begin(),
                                           form.comm_addresses().end());
  const uint64_t num_sharing =
      options_.shares_memory
          ? comm::NumOnThisHost(addresses) * std::max<uint64_t>(form.num_replicas(), 1)
          : 1;
  return AutomaticKvBytes(config, options_.kv_type,
                          {.num_layers = static_cast<int>(form.placement().num_layers()),
                           .num_kv_heads = std::min(num_kv_heads, config.num_kv_heads),
                           .available_bytes = options_.available_bytes / num_sharing});
}

absl::Status Worker::LoadShare(const v1::FormGroup& form) {
  const v1::Placement& placement = form.placement();
  if (engine_ != nullptr &&
      engine_placement_.SerializeAsString() == placement.SerializeAsString()) {
    return absl::OkStatus();
  }
  engine_.reset();
  KVEC_ASSIGN_OR_RETURN(
      engine_, engine::Engine::Create(files_, device_,
                                      {.layers = {static_cast<int>(placement.first_layer()),
                                                  static_cast<int>(placement.num_layers())},
                                       .rank = static_cast<int>(placement.rank()),
                                       .num_ranks = static_cast<int>(placement.num_ranks()),
                                       .max_step_tokens = options_.max_step_tokens,
                                       .kv_bytes = KvBytes(form),
                                       .kv_type = options_.kv_type},
                                      progress_));
  engine_placement_ = placement;
  return absl::OkStatus();
}

absl::Status Worker::FormGroup(const v1::FormGroup& form, Stream& stream) {
  LeaveGroup();
  group_epoch_ = form.group_epoch();
  // The connection first: it is quick, and needs every member at the same time.
  KVEC_ASSIGN_OR_RETURN(comm_, comm_slot_.Connect(form));
  KVEC_RETURN_IF_ERROR(LoadShare(form));
  engine_->SetComm(comm_.get());
  engine_->set_sentence_end_bits(form.sentence_end_bits());
  v1::WorkerMessage ready;
  *ready.mutable_group_ready() = engine_->Capacity();
  ready.mutable_group_ready()->set_group_epoch(group_epoch_);
  const v1::Placement& placement = form.placement();
  LOG(INFO) << "group " << group_epoch_ << " ready: layers " << placement.first_layer() << " … "
            << placement.first_layer() + placement.num_layers() - 1 << ", rank " << placement.rank()
            << " of " << placement.num_ranks() << ", " << ready.group_ready().total_pages()
            << " pages of " << ready.group_ready().page_bytes() << " bytes";
  Send(stream, ready);
  return absl::OkStatus();
}

absl::Status Worker::ExecuteStep(const v1::Step& step, Stream& stream) {
  if (step.group_epoch() != group_epoch_) return absl::OkStatus();
  for (const v1::SequenceStart& start : step.starts()) {
    VLOG(1) << start.request_id() << ", trace " << start.trace_id() << ": starts as sequence "
            << start.sequence_id() << " in Step " << step.step_id() << ", " << start.prompt_tokens()
            << " prompt tokens, " << start.cached_token_ids_size() << " of them cached";
  }
  step_trace_.BeginStep(step);
  const trace::ScopedRecording recording(step_trace_.recorder());
  KVEC_ASSIGN_OR_RETURN(v1::StepResult result, engine_->Execute(step));
  step_trace_.EndStep(step, result);
  v1::WorkerMessage message;
  *message.mutable_step_result() = std::move(result);
  const trace::ScopedSpan span("answer");
  Send(stream, message);
  return absl::OkStatus();
}

void Worker::Send(Stream& stream, const v1::WorkerMessage& message) {
  absl::MutexLock lock(&write_mutex_);
  // A failed write means a broken stream, which Read reports.
  stream.Write(message);
}

v1::WorkerMessage Worker::RegisterMessage() const {
  v1::WorkerMessage message;
  v1::Register& registration = *message.mutable_register_();
  registration.set_version(std::string(Version()));
  registration.set_worker_id(options_.worker_id);
  registration.set_host(options_.host);
  registration.set_device(options_.device);
  registration.set_model_fingerprint(files_.fingerprint());
  registration.set_memory_bytes(options_.available_bytes);
  registration.set_shares_memory(options_.shares_memory);
  registration.set_threads(options_.threads);
  registration.set_read_bytes_per_second(options_.read_bytes_per_second);
  registration.set_comm_address(comm_slot_.address());
  return message;
}

v1::WorkerMessage Worker::HeartbeatMessage() const {
  v1::WorkerMessage message;
  v1::Heartbeat& heartbeat = *message.mutable_heartbeat();
  const ResidentMemory memory = GetResidentMemory();
  heartbeat.set_last_step_id(progress_.last_step_id);
  // Whoever waits for a peer lives, though it makes no progress.
  heartbeat.set_in_step(progress_.in_step && !comm_slot_.is_waiting());
  heartbeat.set_steps_begun(progress_.steps_begun);
  heartbeat.set_layers_done(progress_.layers_done);
  heartbeat.set_resident_bytes(memory.bytes);
  heartbeat.set_peak_resident_bytes(memory.peak_bytes);
  return message;
}

}  // namespace kvec::worker::server
