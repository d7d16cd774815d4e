#include "common/logging.h"

#include "absl/strings/str_cat.h"

namespace kvec {

absl::Status InitLogging(const char* program, absl::string_view level) {
  if (level == "debug") {
    FLAGS_v = 1;
  } else if (level == "warning") {
    FLAGS_minloglevel = google::GLOG_WARNING;
  } else if (level == "error") {
    FLAGS_minloglevel = google::GLOG_ERROR;
  } else if (level != "info") {
    return absl::InvalidArgumentError(
        absl::StrCat("log level \"", level, "\": known are debug, info, warning, error"));
  }
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(program);
  return absl::OkStatus();
}

}  // namespace kvec
