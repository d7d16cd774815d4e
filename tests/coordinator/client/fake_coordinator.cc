#include "tests/coordinator/client/fake_coordinator.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::client {

FakeCoordinator::FakeCoordinator(Answer answer, Health health) : answer_(std::move(answer)) {
  grpc::EnableDefaultHealthCheckService(true);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (health == Health::kNotServing) server_->GetHealthCheckService()->SetServingStatus(false);
  target_ = absl::StrCat("127.0.0.1:", port);
}

FakeCoordinator::~FakeCoordinator() { server_->Shutdown(); }

void FakeCoordinator::FailStatusFrom(uint32_t call) {
  absl::MutexLock lock(&mutex_);
  failing_from_ = call;
}

void FakeCoordinator::SetServing() { server_->GetHealthCheckService()->SetServingStatus(true); }

std::vector<v1::GenerateRequest> FakeCoordinator::requests() const {
  absl::MutexLock lock(&mutex_);
  return requests_;
}

grpc::Status FakeCoordinator::Generate(grpc::ServerContext* context,
                                       const v1::GenerateRequest* request, Writer* writer) {
  {
    absl::MutexLock lock(&mutex_);
    requests_.push_back(*request);
  }
  return answer_(*context, *request, *writer);
}

grpc::Status FakeCoordinator::Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                                         v1::DetokenizeResponse* response) {
  std::string text;
  for (uint32_t id : request->token_ids()) text.push_back(static_cast<char>(id));
  // As a server must: a lone half of "é" is no text.
  if (text == "\xC3" || text == "\xA9") text = "\uFFFD";
  response->set_text(text);
  return grpc::Status::OK;
}

std::string FakeCoordinator::header(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  const auto found = headers_.find(name);
  return found == headers_.end() ? "" : found->second;
}

grpc::Status FakeCoordinator::GetModel(grpc::ServerContext* context, const v1::GetModelRequest*,
                                       v1::GetModelResponse* response) {
  {
    absl::MutexLock lock(&mutex_);
    headers_.clear();
    for (const auto& [key, value] : context->client_metadata()) {
      headers_.emplace(std::string(key.data(), key.size()),
                       std::string(value.data(), value.size()));
    }
  }
  response->set_name("tiny");
  response->set_family("llama");
  response->set_context_length(256);
  response->set_vocab_size(100);
  response->set_num_layers(2);
  response->set_num_heads(4);
  response->set_num_kv_heads(2);
  response->set_head_dim(8);
  response->add_cache_policies("full");
  response->add_cache_policies("kvec");
  response->mutable_default_cache_policy()->set_policy("full");
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::GetStatus(grpc::ServerContext*, const v1::GetStatusRequest* request,
                                        v1::GetStatusResponse* response) {
  uint32_t calls = 0;
  {
    absl::MutexLock lock(&mutex_);
    calls = ++num_status_calls_;
    if (calls >= failing_from_) return {grpc::StatusCode::UNAVAILABLE, "not now"};
  }
  response->set_serving(true);
  response->set_num_requests_running(1);
  response->set_num_requests_waiting(3);
  response->set_uptime_seconds(2 * calls);
  response->set_steps(10 * calls);
  response->set_generated_tokens(100 * calls);
  if (request->max_requests() > 0) {
    v1::RequestStatus& status = *response->add_requests();
    status.set_request_id("r-1");
    status.set_state("decode");
    status.set_prompt_tokens(40);
    status.set_prompt_tokens_fed(40);
    status.set_generated_tokens(12);
    status.set_num_choices(1);
  }
  for (int i = 0; i < 2; ++i) {
    v1::WorkerStatus* worker = response->add_workers();
    worker->set_worker_id(absl::StrCat("worker-", i));
    worker->set_num_layers(1);
    worker->set_first_layer(i);
    worker->set_total_pages(64);
    worker->set_free_pages(60);
    worker->set_page_bytes(1024);
    worker->set_peak_resident_bytes(1000);
  }
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::Trace(grpc::ServerContext*, const v1::TraceRequest* request,
                                    v1::TraceResponse* response) {
  response->add_rows()->set_name("coordinator");
  response->add_rows()->set_name("worker-1");
  if (request->num_steps() > 500) return grpc::Status::OK;
  response->set_num_steps(request->num_steps());
  for (uint32_t i = 0; i < request->num_steps(); ++i) {
    v1::TraceSpan& span = *response->mutable_rows(1)->add_spans();
    span.set_name("step");
    span.set_begin_ns(1'000'000 * i);
    span.set_duration_ns(500'000);
    span.set_step_id(i);
  }
  return grpc::Status::OK;
}

FakeCoordinator::Answer AnswerWith(std::vector<std::string> texts) {
  return [texts = std::move(texts)](grpc::ServerContext&, const v1::GenerateRequest&,
                                    FakeCoordinator::Writer& writer) {
    for (size_t i = 0; i < texts.size(); ++i) {
      v1::GenerateResponse message;
      message.add_token_ids(static_cast<uint32_t>(10 + i));
      message.set_text(texts[i]);
      if (i == 0) {
        message.add_prompt_token_ids(7);
        message.set_request_id("request-1");
        message.set_seed(99);
      }
      if (i + 1 == texts.size()) {
        message.set_finish_reason(v1::FINISH_REASON_STOP);
        message.mutable_usage()->set_prompt_tokens(1);
        message.mutable_usage()->set_completion_tokens(static_cast<uint32_t>(texts.size()));
      }
      writer.Write(message);
    }
    return grpc::Status::OK;
  };
}

}  // namespace kvec::coordinator::client
