#include "common/security/token_processor.h"

#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "common/grpc_status.h"

namespace kvec::security {
namespace {

constexpr char kAuthorization[] = "authorization";
constexpr absl::string_view kOpenService = "/grpc.health.v1.Health/";

absl::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

}  // namespace

grpc::Status TokenProcessor::Process(const InputMetadata& metadata, grpc::AuthContext* context,
                                     OutputMetadata* consumed, OutputMetadata* response) {
  const auto path = metadata.find(":path");
  const bool is_open = path != metadata.end() && absl::StartsWith(View(path->second), kOpenService);
  const auto [first, last] = metadata.equal_range(kAuthorization);
  for (auto entry = first; entry != last; ++entry) {
    consumed->emplace(kAuthorization, std::string(entry->second.data(), entry->second.size()));
  }
  if (is_open) return grpc::Status::OK;
  // Of two only one could be checked, and a proxy may have checked the other.
  if (consumed->size() > 1) {
    return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "authorization: is there twice");
  }
  std::optional<absl::string_view> authorization;
  if (first != last) authorization = View(first->second);
  return ToGrpcStatus(guard_->Check(authorization));
}

}  // namespace kvec::security
