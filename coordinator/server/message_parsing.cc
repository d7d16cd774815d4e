#include "coordinator/server/message_parsing.h"

#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/utf8.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

namespace kvec::coordinator::server {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedInputStream;

// "chat.messages.content: byte 17 is not UTF-8" for the first such field; empty when there is none
// or the bytes are malformed in another way. Recursion ends because messages nest by type.
std::string FindInvalidString(const Descriptor& descriptor, absl::string_view path,
                              CodedInputStream& input) {
  while (const uint32_t tag = input.ReadTag()) {
    const FieldDescriptor* field =
        descriptor.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    const bool delimited =
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (field == nullptr || !delimited ||
        (field->type() != FieldDescriptor::TYPE_STRING &&
         field->type() != FieldDescriptor::TYPE_MESSAGE)) {
      if (!WireFormatLite::SkipField(&input, tag)) return "";
      continue;
    }
    const std::string name = absl::StrCat(path, path.empty() ? "" : ".", field->name());
    uint32_t size = 0;
    if (!input.ReadVarint32(&size)) return "";
    if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      const CodedInputStream::Limit limit = input.PushLimit(static_cast<int>(size));
      std::string found = FindInvalidString(*field->message_type(), name, input);
      if (!found.empty()) return found;
      input.PopLimit(limit);
      continue;
    }
    std::string text;
    if (!input.ReadString(&text, static_cast<int>(size))) return "";
    const size_t offset = text::FindInvalidUtf8(text);
    if (offset != std::string::npos) {
      return absl::StrCat(name, ": byte ", offset, " is not UTF-8");
    }
  }
  return "";
}

}  // namespace

absl::Status ParseMessage(grpc::ByteBuffer bytes, google::protobuf::Message* message) {
  grpc::ByteBuffer copy = bytes;  // shares the slices
  grpc::ProtoBufferReader reader(&bytes);
  if (reader.status().ok() && message->ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  grpc::ProtoBufferReader again(&copy);
  CodedInputStream input(&again);
  const std::string found = FindInvalidString(*message->GetDescriptor(), "", input);
  return absl::InvalidArgumentError(
      found.empty() ? absl::StrCat(message->GetDescriptor()->name(), ": malformed message")
                    : found);
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes;
  bool own_buffer = false;
  // Cannot fail: messages stay far below protobuf's 2 GiB.
  grpc::SerializationTraits<google::protobuf::Message>::Serialize(message, &bytes, &own_buffer);
  return bytes;
}

}  // namespace kvec::coordinator::server
