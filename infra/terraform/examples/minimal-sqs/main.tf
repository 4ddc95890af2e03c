provider "aws" {
  region = var.region
}

data "aws_sqs_queue" "this" {
  name = var.queue_name
}

module "tidegate" {
  source = "../.."

  local_existing_package = var.package
  architectures          = [var.architecture]

  ecs_cluster_name = var.ecs_cluster_name
  ecs_service_name = var.ecs_service_name
  queue_arn        = data.aws_sqs_queue.this.arn

  min_tasks = var.min_tasks
  max_tasks = var.max_tasks
  dry_run   = var.dry_run

  environment_variables      = var.environment_variables
  state_bucket_force_destroy = var.state_bucket_force_destroy
}
