#include "common/security/plaintext_credentials.h"

#include <grpc/grpc_security.h>
#include <grpc/slice.h>

#include <vector>

namespace kvec::security {
namespace {

using Processor = std::shared_ptr<grpc::AuthMetadataProcessor>;

grpc::string_ref View(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

// gRPC's C interface to what grpc::AuthMetadataProcessor::Process does. `state` is a Processor.
void Process(void* state, grpc_auth_context* context, const grpc_metadata* entries,
             size_t num_entries, grpc_process_auth_metadata_done_cb done, void* call) {
  grpc::AuthMetadataProcessor::InputMetadata metadata;
  for (size_t i = 0; i < num_entries; ++i) {
    metadata.emplace(View(entries[i].key), View(entries[i].value));
  }
  grpc::AuthMetadataProcessor::OutputMetadata consumed;
  grpc::AuthMetadataProcessor::OutputMetadata response;
  const grpc::Status status =
      (*static_cast<Processor*>(state))->Process(metadata, nullptr, &consumed, &response);
  std::vector<grpc_metadata> removed;
  for (const auto& [key, value] : consumed) {
    grpc_metadata& entry = removed.emplace_back();
    entry.key = grpc_slice_from_copied_buffer(key.data(), key.size());
    entry.value = grpc_slice_from_copied_buffer(value.data(), value.size());
  }
  done(call, removed.data(), removed.size(), nullptr, 0,
       static_cast<grpc_status_code>(status.error_code()), status.error_message().c_str());
  for (const grpc_metadata& entry : removed) {
    grpc_slice_unref(entry.key);
    grpc_slice_unref(entry.value);
  }
}

void Destroy(void* state) { delete static_cast<Processor*>(state); }

}  // namespace

int PlaintextCredentials::AddPortToServer(const std::string& address, grpc_server* server) {
  grpc_server_credentials* credentials = grpc_insecure_server_credentials_create();
  if (processor_ != nullptr) {
    // Destroy takes it back.
    grpc_server_credentials_set_auth_metadata_processor(
        credentials, {&Process, &Destroy, new Processor(processor_)});
  }
  const int port = grpc_server_add_http2_port(server, address.c_str(), credentials);
  grpc_server_credentials_release(credentials);
  return port;
}

}  // namespace kvec::security
