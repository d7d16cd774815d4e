#include "coordinator/client/connection.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "common/security/listen_address.h"
#include "common/security/secret.h"
#include "common/status_macros.h"
#include "coordinator/client/header_interceptor.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace kvec::coordinator::client {
namespace {

using HealthCheckResponse = grpc::health::v1::HealthCheckResponse;

// A request of the control kind is answered from memory: longer means that nobody is there.
constexpr absl::Duration kControlTimeout = absl::Seconds(10);

constexpr absl::Duration kRetryPause = absl::Milliseconds(50);

// gRPC aborts on a header that HTTP does not allow.
bool IsHeaderValue(const char* text) {
  const absl::string_view value = text == nullptr ? "" : text;
  return !value.empty() && std::all_of(value.begin(), value.end(), absl::ascii_isgraph);
}

// What every call carries. INVALID_ARGUMENT when the token is to go out unencrypted.
absl::StatusOr<HeaderInterceptorFactory::Headers> MakeHeaders(const ConnectionOptions& options) {
  HeaderInterceptorFactory::Headers headers;
  KVEC_ASSIGN_OR_RETURN(const std::string token,
                        security::ReadToken(options.token_file, "KVEC_TOKEN"));
  // As programs that are traced hand it to those they start.
  if (const char* parent = std::getenv("TRACEPARENT"); IsHeaderValue(parent)) {
    headers.emplace("traceparent", parent);
  }
  if (token.empty()) return headers;
  if (!options.tls.is_on() && !options.insecure && !security::IsLocalAddress(options.target)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the token would go to ", options.target,
                     " unencrypted: --tls or --tls-ca is missing, or --insecure"));
  }
  headers.emplace("authorization", absl::StrCat("Bearer ", token));
  return headers;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const ConnectionOptions& options) {
  grpc::ChannelArguments arguments;
  // Log-probabilities of a long prompt exceed gRPC's default of 4 MiB.
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  KVEC_ASSIGN_OR_RETURN(const auto credentials,
                        security::MakeChannelCredentials(options.tls, arguments));
  KVEC_ASSIGN_OR_RETURN(auto headers, MakeHeaders(options));
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<HeaderInterceptorFactory>(std::move(headers)));
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      options.target, credentials, arguments, std::move(interceptors));
}

// Follows the coordinator's health until it serves, the stream breaks or the deadline passes.
grpc::Status WatchUntilServing(grpc::health::v1::Health::Stub& health, absl::Time deadline,
                               HealthCheckResponse::ServingStatus& last_seen) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  context.set_wait_for_ready(true);
  const auto stream = health.Watch(&context, grpc::health::v1::HealthCheckRequest());
  HealthCheckResponse response;
  while (stream->Read(&response)) {
    last_seen = response.status();
    if (last_seen == HealthCheckResponse::SERVING) {
      context.TryCancel();
      return grpc::Status::OK;
    }
  }
  return stream->Finish();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const ConnectionOptions& options) {
  KVEC_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, OpenChannel(options));
  // Not make_unique: the constructor is private.
  return std::unique_ptr<Connection>(new Connection(options.target, std::move(channel)));
}

Connection::Connection(const std::string& target, std::shared_ptr<grpc::Channel> channel)
    : target_(target), channel_(std::move(channel)), inference_(v1::Inference::NewStub(channel_)) {}

absl::StatusOr<v1::GetModelResponse> Connection::GetModel() const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kControlTimeout));
  v1::GetModelResponse response;
  const grpc::Status status = inference_->GetModel(&context, v1::GetModelRequest(), &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

absl::StatusOr<v1::GetStatusResponse> Connection::GetStatus(uint32_t max_requests) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kControlTimeout));
  v1::GetStatusRequest request;
  request.set_max_requests(max_requests);
  v1::GetStatusResponse response;
  const grpc::Status status = inference_->GetStatus(&context, request, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

absl::StatusOr<std::string> Connection::Detokenize(absl::Span<const uint32_t> token_ids) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kControlTimeout));
  v1::DetokenizeRequest request;
  request.mutable_token_ids()->Add(token_ids.begin(), token_ids.end());
  v1::DetokenizeResponse response;
  const grpc::Status status = inference_->Detokenize(&context, request, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return response.text();
}

absl::Status Connection::WaitUntilServing(absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  const auto health = grpc::health::v1::Health::NewStub(channel_);
  auto last_seen = HealthCheckResponse::UNKNOWN;
  while (true) {
    const grpc::Status status = WatchUntilServing(*health, deadline, last_seen);
    if (status.ok() && last_seen == HealthCheckResponse::SERVING) return absl::OkStatus();
    if (absl::Now() >= deadline) {
      return absl::UnavailableError(absl::StrCat(
          target_, " does not serve after ", absl::FormatDuration(timeout), ": ",
          last_seen == HealthCheckResponse::UNKNOWN ? "no coordinator answers there"
                                                    : "its group of workers is not ready"));
    }
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) return FromGrpcStatus(status);
    // The coordinator went away; one that ends streams at once must not make this spin.
    absl::SleepFor(std::min(kRetryPause, deadline - absl::Now()));
  }
}

}  // namespace kvec::coordinator::client
