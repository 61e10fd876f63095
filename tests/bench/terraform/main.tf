# The region of tests/bench/bench_aws.py as a competent Terraform user would write it: the same resources, one
# instance, volume and attachment a node. Without FSx: the provider waits ten minutes before it first looks whether
# a file system is gone.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

variable "endpoint" { type = string }
variable "image" { type = string }
variable "nodes" { type = number }

locals {
  name   = "bench"
  region = "us-east-1"
  zones  = ["us-east-1a", "us-east-1b", "us-east-1c"]
  zone   = "us-east-1c"
  cards  = 8
  subnet = aws_subnet.nodes[2].id
}

provider "aws" {
  region                      = local.region
  access_key                  = "bench"
  secret_key                  = "bench"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  s3_use_path_style           = true
  endpoints {
    ec2 = var.endpoint
    iam = var.endpoint
    kms = var.endpoint
    s3  = var.endpoint
    sts = var.endpoint
  }
  default_tags {
    tags = { region = local.name }
  }
}

# ---- network

resource "aws_vpc" "region" {
  cidr_block           = "10.0.0.0/16"
  enable_dns_hostnames = true
  enable_dns_support   = true
  tags                 = { Name = local.name }
}

resource "aws_subnet" "nodes" {
  count             = length(local.zones)
  vpc_id            = aws_vpc.region.id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(aws_vpc.region.cidr_block, 3, count.index)
}

resource "aws_subnet" "door" {
  vpc_id            = aws_vpc.region.id
  availability_zone = local.zones[0]
  cidr_block        = cidrsubnet(aws_vpc.region.cidr_block, 8, 240)
}

resource "aws_internet_gateway" "region" {
  vpc_id = aws_vpc.region.id
}

resource "aws_eip" "nat" {
  domain     = "vpc"
  depends_on = [aws_internet_gateway.region]
}

resource "aws_nat_gateway" "region" {
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_subnet.door.id
}

resource "aws_route_table" "door" {
  vpc_id = aws_vpc.region.id
}

resource "aws_route" "door" {
  route_table_id         = aws_route_table.door.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.region.id
}

resource "aws_route_table_association" "door" {
  route_table_id = aws_route_table.door.id
  subnet_id      = aws_subnet.door.id
}

resource "aws_route_table" "nodes" {
  vpc_id = aws_vpc.region.id
}

resource "aws_route" "nodes" {
  route_table_id         = aws_route_table.nodes.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.region.id
}

resource "aws_route_table_association" "nodes" {
  count          = length(local.zones)
  route_table_id = aws_route_table.nodes.id
  subnet_id      = aws_subnet.nodes[count.index].id
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.region.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.nodes.id]
}

resource "aws_security_group" "nodes" {
  name        = "${local.name}-nodes"
  description = "EFA: everything between nodes"
  vpc_id      = aws_vpc.region.id
}

resource "aws_vpc_security_group_ingress_rule" "among" {
  security_group_id            = aws_security_group.nodes.id
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "among" {
  security_group_id            = aws_security_group.nodes.id
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.nodes.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_placement_group" "nodes" {
  name     = "${local.name}-nodes"
  strategy = "cluster"
}

# ---- key, bucket, identity

resource "aws_kms_key" "region" {
  description             = "${local.name} data"
  enable_key_rotation     = true
  deletion_window_in_days = 7
}

resource "aws_kms_alias" "region" {
  name          = "alias/${local.name}"
  target_key_id = aws_kms_key.region.key_id
}

resource "aws_s3_bucket" "artifacts" {
  bucket = "${local.name}-artifacts"
}

resource "aws_s3_bucket_versioning" "artifacts" {
  bucket = aws_s3_bucket.artifacts.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "artifacts" {
  bucket = aws_s3_bucket.artifacts.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.region.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "artifacts" {
  bucket                  = aws_s3_bucket.artifacts.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "artifacts" {
  bucket = aws_s3_bucket.artifacts.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly", Effect = "Deny", Principal = "*", Action = "s3:*",
      Resource  = [aws_s3_bucket.artifacts.arn, "${aws_s3_bucket.artifacts.arn}/*"],
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_iam_role" "node" {
  name = "${local.name}-node"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "node" {
  name = "artifacts"
  role = aws_iam_role.node.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["s3:GetObject", "s3:ListBucket"], Resource = [aws_s3_bucket.artifacts.arn, "${aws_s3_bucket.artifacts.arn}/*"] },
      { Effect = "Allow", Action = ["kms:Decrypt"], Resource = [aws_kms_key.region.arn] },
    ]
  })
}

resource "aws_iam_instance_profile" "node" {
  name = "${local.name}-node"
  role = aws_iam_role.node.name
}

# ---- nodes

resource "aws_launch_template" "node" {
  name          = "${local.name}-node"
  image_id      = var.image
  instance_type = "p6-b200.48xlarge"
  iam_instance_profile {
    name = aws_iam_instance_profile.node.name
  }
  placement {
    group_name        = aws_placement_group.nodes.name
    availability_zone = local.zone
  }
  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }
  dynamic "network_interfaces" {
    for_each = range(local.cards)
    content {
      device_index          = network_interfaces.value == 0 ? 0 : 1
      network_card_index    = network_interfaces.value
      interface_type        = "efa"
      subnet_id             = local.subnet
      security_groups       = [aws_security_group.nodes.id]
      delete_on_termination = true
    }
  }
}

resource "aws_instance" "node" {
  count     = var.nodes
  user_data = "#cloud-config\n"
  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }
  tags = { Name = format("%s-node-%04d", local.name, count.index) }
}

resource "aws_ebs_volume" "data" {
  count             = var.nodes
  availability_zone = local.zone
  size              = 500
  type              = "gp3"
  encrypted         = true
  kms_key_id        = aws_kms_key.region.arn
}

resource "aws_volume_attachment" "data" {
  count       = var.nodes
  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.data[count.index].id
  instance_id = aws_instance.node[count.index].id
}
