#include "coordinator/client/target_option.h"

namespace kvec::coordinator::client {

CLI::Option* AddTargetOption(CLI::App& command, std::string& target) {
  target = kDefaultTarget;
  return command.add_option("--target", target, "The coordinator")
      ->type_name("HOST:PORT")
      ->capture_default_str();
}

}  // namespace kvec::coordinator::client
